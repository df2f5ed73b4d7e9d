"""Gymnasium environments in memsuite: any environment with discrete actions is a task."""

from __future__ import annotations

import math

import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from memsuite.errors import UsageError  # noqa: E402
from memsuite.tasks import get_task_config  # noqa: E402
from memsuite.tasks.gym_task import GymTask  # noqa: E402


def roll(task, now, actions):
    return [now, *(task.step(action) for action in actions)]


def test_cartpole_without_velocities():
    task = get_task_config("gym:CartPole-v1", "medium").make(mask=[1, 3])
    assert (task.observation_dim, task.num_actions, task.horizon) == (2, 2, 500)
    now = task.reset(3, torch.Generator().manual_seed(0))
    assert now.observation.shape == (3, 2)
    assert now.is_first.all()
    whole = GymTask("CartPole-v1").reset(3, torch.Generator().manual_seed(0))
    assert torch.equal(now.observation, whole.observation[:, [0, 2]])
    assert math.isnan(task.anchors().memoryless)
    config = get_task_config("gym:CartPole-v1", "medium")
    assert (config.horizon, config.discount) == (500, 0.99)
    assert math.isnan(config.target_success)


def test_ends_and_cuts_are_told_apart():
    task = GymTask("CartPole-v1", horizon=12)
    assert task.horizon == 12
    now, terminated, truncated = task.reset(8, torch.Generator().manual_seed(0)), 0, 0
    for step in range(60):
        before = now
        now = task.step(torch.tensor([1] * 4 + [step % 2] * 4))  # a push to one side, and a balance
        assert torch.equal(now.is_first, now.terminated | now.truncated)
        assert not (now.terminated & now.truncated).any()
        assert not now.scored.any()
        assert (now.reward == 1).all()
        assert (now.final_observation is None) == (not now.truncated.any())
        for env in now.truncated.nonzero().flatten().tolist():
            moved = now.final_observation[env, 0] - before.observation[env, 0]
            assert moved == pytest.approx(0.02 * float(before.observation[env, 1]), abs=1e-5)
        assert (now.observation[now.is_first].abs() <= 0.05).all()
        terminated, truncated = terminated + int(now.terminated.sum()), truncated + int(now.truncated.sum())
    assert terminated > 0
    assert truncated > 0


def test_discrete_observations_become_one_hots():
    task = GymTask("FrozenLake-v1", env_args={"is_slippery": False})
    now = task.reset(2, torch.Generator().manual_seed(0))
    assert now.observation.shape == (2, 16)
    assert now.observation.sum(1).tolist() == [1, 1]
    assert (task.observation_dim, task.num_actions, task.horizon) == (16, 4, 100)


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1"])
def test_saved_batch_goes_on_with_the_same_bits(name):
    task, actions = GymTask(name), torch.randint(2, (90, 3))
    now = roll(task, task.reset(3, torch.Generator().manual_seed(0)), actions[:40])[-1]
    saved, again = task.state_dict(), GymTask(name)
    restored = again.load_state_dict(saved, torch.Generator())
    assert torch.equal(restored.observation, now.observation)
    for one, other in zip(roll(task, now, actions[40:]), roll(again, restored, actions[40:]), strict=True):
        assert torch.equal(one.observation, other.observation)
        assert torch.equal(one.is_first, other.is_first)


def test_copy_for_evaluation_leaves_the_batch_alone():
    task = GymTask("CartPole-v1")
    now = task.reset(2, torch.Generator().manual_seed(0))
    copy = task.fresh()
    roll(copy, copy.reset(3, torch.Generator().manual_seed(1)), torch.ones(15, 3, dtype=torch.int64))
    alone = GymTask("CartPole-v1")
    actions = torch.randint(2, (20, 2))
    alone_steps = roll(alone, alone.reset(2, torch.Generator().manual_seed(0)), actions)
    for one, other in zip(roll(task, now, actions), alone_steps, strict=True):
        assert torch.equal(one.observation, other.observation)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("Nothing-v0", {}, "gym:Nothing"),
        ("no_such_module:Env-v0", {}, "no file no_such_module.py in this folder"),
        ("CartPole-v1", {"mask": [4]}, "outside 0 to 3"),
        ("CartPole-v1", {"masks": [1]}, "did you mean: mask"),
    ],
)
def test_mistakes_are_named(name, arguments, words):
    with pytest.raises(UsageError, match=words):
        get_task_config(f"gym:{name}", "medium").make(**arguments)


@pytest.mark.filterwarnings("default")  # POPGym's own
def test_popgym_environment_runs():
    pytest.importorskip("popgym")
    task = get_task_config("gym:popgym:popgym-RepeatPreviousEasy-v0", "medium").make()
    steps = roll(task, task.reset(4, torch.Generator().manual_seed(0)), torch.randint(4, (120, 4)))
    assert (task.observation_dim, task.num_actions) == (4, 4)
    assert torch.stack([step.is_first for step in steps[1:]]).any()
