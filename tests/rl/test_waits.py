"""On a GPU the host waits at the places of an iteration that the pretended accelerator counts (tests/pretended)."""

import warnings

import pytest
import torch
from iterations import iterate, module_of, prepared

from memsuite.controllers import CONTROLLERS
from memsuite.rl import PPOConfig

SETTINGS = {"shared": {}, "separate": {"ppo": PPOConfig(draws=1)}, "supervised": {"objective": "supervised"}}


def waits(run):
    """Return what PyTorch says of each operation for which the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [str(one.message) for one in found if "synchroniz" in str(one.message)]


@pytest.mark.gpu
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("task", ["delayed_cue", "copy_memory", "distractor_nav"])
def test_an_iteration_waits_for_its_decisions_at_most(task, settings, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    module = module_of(task, **SETTINGS[settings]).cuda()
    prepared(monkeypatch, module, torch.device("cuda"))
    for _ in range(2):  # the first iterations build, load and measure
        iterate(module).tolist()
    found = waits(lambda: iterate(module))
    # Where the decisions of a minibatch are, and whether an episode begins with the rollout.
    assert len(found) <= 2, found


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in CONTROLLERS if name != "hyena"])
def test_no_controller_makes_the_host_wait(name, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    network = {"controller": name, "controller_args": {"hidden_dim": 16, "depth": 1}}
    module = module_of("delayed_cue", **network).cuda()
    prepared(monkeypatch, module, torch.device("cuda"))
    for _ in range(2):
        iterate(module).tolist()
    found = waits(lambda: iterate(module))
    assert len(found) <= 2, found
