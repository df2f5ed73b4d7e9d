"""Two processes of B environments train like one of 2B: the same gradients and parameters at every step."""

from dataclasses import replace

import pytest
import torch
from agents import ENVS, fit, module_of, record_steps
from first_recipe import first_recipe
from processes import run

from memsuite import module as where
from memsuite.controllers.base import map_state
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig, begin, collect, stream, update


def columns_of(trajectory, columns: slice):
    """Return the rollout of some of the environments."""
    parts = {name: value[:, columns] for name, value in vars(trajectory).items() if name != "initial_state"}
    state = map_state(lambda leaf: leaf[columns], trajectory.initial_state)
    return replace(trajectory, **parts, initial_state=state)


def share_one_rollout(module: MemoryPPO, rank: int, world: int) -> None:
    """Let every process collect from all environments, and keep its own columns of the rollout."""
    task, actions = module.task.fresh(), stream(7, "actions")
    acting = []

    def collect_share(_task, model, actor, steps, _generator):
        acting[:] = acting or [begin(task, model, ENVS, stream(7, "task"))]
        trajectory, acting[0] = collect(task, model, acting[0], steps, actions)
        size = ENVS // world
        return columns_of(trajectory, slice(rank * size, (rank + 1) * size)), actor

    where.collect = collect_share


def deal_as_two_would(num_envs: int, ppo: PPOConfig, generator: torch.Generator):
    """Choose the minibatches of one process such that each is the union of the two processes' minibatches."""
    half = num_envs // 2
    parts = torch.randperm(half, generator=generator).tensor_split(ppo.minibatches)
    return [torch.cat([part, part + half]) for part in parts]


def train_recorded(rank: int, world: int, controller: str, ppo: dict, overrides: dict) -> dict:
    module = module_of(controller, first_recipe(epochs=2, minibatches=2, **ppo), **overrides)
    steps: list = []
    share_one_rollout(module, rank, world)
    record_steps(steps)
    if world == 1:
        update.minibatch_columns = deal_as_two_would
    rows: list = []
    module.log_row = rows.append
    fit(module, world, precision="64-true")
    return {"steps": steps, "rows": rows}


# Controller, PPO's settings, others.
CASES = [
    ("gru", {}, {}),
    ("mamba", {}, {}),
    ("transformer", {}, {}),
    # The bonus is uniform here, because rollouts that end before any query have no advantages to weigh it by.
    ("gru", {"discount": 0.9, "entropy_weighting": "uniform", "value_clip": 0.2, "rollout_length": 7}, {}),
    ("gru", {"bptt_steps": 5}, {"task": "n_back", "task_args": None}),
    ("gru", {"discount": 0.9}, {"task": "gym:Pendulum-v1", "task_args": None}),  # actions of real numbers
]


@pytest.mark.ddp
@pytest.mark.parametrize(("controller", "ppo", "overrides"), CASES)
def test_two_processes_are_one_of_twice_the_environments(tmp_path, controller, ppo, overrides):
    (one,) = run(train_recorded, 1, tmp_path / "one", controller, ppo, overrides)
    first, second = run(train_recorded, 2, tmp_path / "two", controller, ppo, overrides)
    assert len(one["steps"]) >= 12
    for single, *both in zip(one["steps"], first["steps"], second["steps"], strict=True):
        assert single["norm"] > 0
        for name in ("gradients", "after"):
            for a, b, c in zip(single[name], both[0][name], both[1][name], strict=True):
                assert a.dtype == torch.float64
                assert torch.equal(b, c)  # across the processes: the same bits
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(one["rows"], first["rows"], strict=True):
        assert b.pop("world_size") == 2
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12, nan_ok=True)
