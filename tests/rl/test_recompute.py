"""Blocks that the backward pass computes again: the same gradient, in less memory."""

import subprocess
import sys

import pytest
import torch
from torch.utils import _pytree as pytree

from memsuite.controllers import CONTROLLERS, make_controller
from memsuite.controllers.base import forward_in_blocks
from memsuite.rl import ActorCritic
from memsuite.runs import RunConfig
from memsuite.runs.recipes import differences

# The peak of a training pass over one long sequence, in megabytes beyond what the process had before it.
PEAK = """
import sys, torch
from pathlib import Path
from memsuite.controllers import make_controller
from memsuite.rl import ActorCritic
torch.set_num_threads(1)
def peak():  # of this program alone: what getrusage says begins with the peak of the process that started it
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return float(line.split()[1]) / 1024
model = ActorCritic(make_controller(sys.argv[1], input_dim=4, hidden_dim=128, memory_horizon=100), 3)
model.recompute = int(sys.argv[2]) or None
x, first = torch.randn(3000, 16, 4), torch.zeros(3000, 16, dtype=torch.bool)
before = peak()
features, _ = model.features(x, model.init_state(16), first)
features[-1].sum().backward()
print(peak() - before)
"""


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_the_gradient_is_the_same(controller):
    torch.manual_seed(0)
    model = ActorCritic(make_controller(controller, input_dim=5, hidden_dim=16, memory_horizon=40), 3).double()
    x, first, found = torch.randn(50, 3, 5).double(), torch.rand(50, 3) < 0.05, []
    for model.recompute in (None, 7, 50, 64):
        model.zero_grad()
        logits, values, _ = model(x, model.init_state(3), first)
        (logits.square().sum() + values.sum()).backward()
        found.append([logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read where Linux tells it")
@pytest.mark.parametrize("controller", [pytest.param("mamba", marks=pytest.mark.slow), "gated_deltanet"])
def test_it_takes_less_memory(controller):
    def peak(block: int) -> float:
        line = [sys.executable, "-c", PEAK, controller, str(block)]
        return float(subprocess.run(line, capture_output=True, text=True, check=True).stdout)

    assert peak(200) < 0.75 * peak(0)


def test_a_run_with_it_is_in_the_same_cell():
    config = {**RunConfig().plain(), "controller_args": {}, "num_envs": 2048}
    config["ppo"] = {**config["ppo"], "draws": 32, "discount": 0.0}
    given = differences(config, "v2", 199)
    config["ppo"]["recompute"] = 100
    assert differences(config, "v2", 199) == given


@pytest.mark.parametrize("controller", ["gru", "lstm", "lru"])
def test_a_block_that_is_computed_again_leaves_nothing_but_its_state(controller):
    """A view of a block's last row would keep the whole block in memory until the backward pass."""
    model = make_controller(controller, input_dim=3, hidden_dim=8)
    x, first = torch.randn(60, 2, 3), torch.zeros(60, 2, dtype=torch.bool)
    keep = torch.arange(60) == 59
    features, state = forward_in_blocks(model, x, model.init_state(2), first, 20, recompute=True, keep_T=keep)
    for leaf in [features, *pytree.tree_leaves(state)]:
        assert leaf.untyped_storage().nbytes() == leaf.numel() * leaf.element_size()
