"""What a run needs at the least, and is refused for before it begins."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from memsuite.__main__ import main
from memsuite.controllers import make_controller
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl import ActorCritic, needs


def network(controller, width=32, **arguments):
    return ActorCritic(make_controller(controller, input_dim=3, hidden_dim=width, **arguments), 3, 3)


@pytest.mark.parametrize("controller", ["gru", "lru", "mamba", "gated_deltanet", "transformer"])
def test_what_is_kept_grows_with_width_and_depth(controller):
    one, wide, deep = network(controller), network(controller, 64), network(controller, depth=4)
    kept, of_wide, of_deep = (needs.kept_per_step(model.controller, 3) for model in (one, wide, deep))
    width = 4 * one.controller.feature_dim
    assert width <= kept <= 60 * width
    assert 1.5 * kept < of_wide < 2.5 * kept
    assert of_deep > 1.5 * kept
    assert one.training


def test_what_is_kept_is_a_lower_bound():
    """A minibatch keeps what was foretold, and more: the bytes of all storages that its loss holds."""
    model, steps, rows = network("gru"), 300, 5
    held = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: held.setdefault(x.untyped_storage().data_ptr(), x), id):
        logits, values, _ = model(torch.randn(steps, rows, 3), model.init_state(rows), torch.zeros(steps, rows) > 0)
        loss = logits.square().sum() + values.sum()
    assert loss.requires_grad
    bytes_held = sum(one.untyped_storage().nbytes() for one in held.values())
    assert 0.3 * bytes_held < steps * rows * needs.kept_per_step(model.controller, 3) <= bytes_held


def test_a_minibatch_that_fits_no_memory_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(needs, "most_memory", lambda: 1e9)
    line = f"fit --task delayed_cue --horizon 4000 --controller mamba --out {tmp_path / 'x'}"
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the intermediate values of 4,000 steps of a minibatch of 64 scripts need at least" in said
    assert "of memory; this machine has 1 GB: set model.ppo.recompute (below 4,000)" in said
    assert not (tmp_path / "x").exists()


def test_what_makes_a_minibatch_smaller_lets_it_fit(monkeypatch):
    monkeypatch.setattr(needs, "most_memory", lambda: 1e9)
    module = MemoryPPO(task="delayed_cue", horizon=4000, controller="mamba")
    given = module.model, module.task, module.ppo, module.num_envs, "32-true"
    with pytest.raises(UsageError, match="the intermediate values"):
        needs.check_training(*given)
    for smaller in ({"recompute": 200}, {"bptt_steps": 200}, {"minibatches": 32}):
        needs.check_training(*given[:2], replace(module.ppo, **smaller), *given[3:])
    monkeypatch.setattr(needs, "most_memory", lambda: 3e9)
    needs.check_training(*given[:4], "bf16-mixed")


def test_a_controller_that_cannot_be_read_is_left_to_the_trial():
    assert needs.kept_per_step(nn.Linear(3, 3), 3) == 0.0
