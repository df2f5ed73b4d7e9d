"""Two processes of shared scripts train like one process with the scripts of both: each group is in one process."""

import pytest
import torch
from agents import HORIZON, fit, module_of, record_steps
from processes import run
from test_equality import deal_as_two_would

from memsuite.rl import PPOConfig, shared, stream, update
from memsuite.types import Block

SCRIPTS, DRAWS = 4, 3


def spread(log_p, draws, generator):
    """Draw the actions at evenly spaced quantiles, which are the same in every process."""
    cumulative = log_p.exp().cumsum(-1)
    at = (torch.arange(draws, dtype=log_p.dtype) + 0.5) / draws
    return torch.searchsorted(cumulative, at.expand(len(log_p), -1).contiguous(), right=True).clamp(
        max=log_p.shape[-1] - 1
    )


def train_recorded(rank: int, world: int, controller: str, objective: str, ppo: dict, task: dict) -> dict:
    ppo = {"epochs": 2, "minibatches": 2, "draws": DRAWS, "advantage": "group_mean", **ppo}
    size = {"num_envs": SCRIPTS * DRAWS, "steps": SCRIPTS * DRAWS * HORIZON * 3}
    more = {"task": "n_back", "task_args": None, "objective": objective, **size, **task}
    module = module_of(controller, PPOConfig(**ppo), **more)
    everyones, share = module.task.fresh(), SCRIPTS // world
    everyones.reset(SCRIPTS, stream(7, "task"))
    mine = slice(rank * share, (rank + 1) * share)

    def advance(steps):
        block = everyones.advance(steps)
        return Block(*(getattr(block, name)[:, mine] for name in Block.__dataclass_fields__))

    module.course.task.advance, shared.draw = advance, spread
    if world == 1:
        update.minibatch_columns = deal_as_two_would
    steps: list = []
    record_steps(steps)
    module.log_row = lambda row: None
    fit(module, world, precision="64-true")
    return {"steps": steps}


CASES = [
    ("gru", "ppo", {}, {}),
    ("gru", "ppo", {"rollout_length": 7, "normalise_advantages": True}, {}),
    # In some windows only one of the processes has a decision.
    (
        "gru",
        "ppo",
        {"bptt_steps": 3, "normalise_advantages": True},
        {"task": "delayed_cue", "task_args": {"num_cues": 2, "vocabulary": 2, "jitter": 9}},
    ),
    ("transformer", "ppo", {"advantage": "leave_one_out"}, {}),
    ("mamba", "supervised", {}, {}),
]


@pytest.mark.ddp
@pytest.mark.parametrize(("controller", "objective", "ppo", "task"), CASES)
def test_two_processes_are_one_of_twice_the_scripts(tmp_path, controller, objective, ppo, task):
    (one,) = run(train_recorded, 1, tmp_path / "one", controller, objective, ppo, task)
    first, second = run(train_recorded, 2, tmp_path / "two", controller, objective, ppo, task)
    assert len(one["steps"]) >= 8
    assert max(float(step["norm"]) for step in one["steps"]) > 0
    for single, *both in zip(one["steps"], first["steps"], second["steps"], strict=True):
        for name in ("gradients", "after"):
            for a, b, c in zip(single[name], both[0][name], both[1][name], strict=True):
                assert torch.equal(b, c)  # across the processes: the same bits
                torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
