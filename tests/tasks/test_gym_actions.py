"""Gymnasium environments with actions of several numbers or of real numbers, and observations of every kind."""

from __future__ import annotations

import json
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

import worlds  # noqa: E402

from memsuite.__main__ import main  # noqa: E402
from memsuite.errors import Stopped, UsageError  # noqa: E402
from memsuite.module import MemoryPPO  # noqa: E402
from memsuite.rl import begin, collect, evaluate, make_actor_critic, stream  # noqa: E402
from memsuite.runs.ppo import PPOConfig  # noqa: E402
from memsuite.tasks.actions import Continuous, MultiDiscrete  # noqa: E402
from memsuite.tasks.gym_task import GymTask  # noqa: E402

PLAIN = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
SPACES = {
    "several": MultiDiscrete((3, 2, 4)),
    "table": MultiDiscrete((2, 3, 4, 2)),
    "shifted": MultiDiscrete((3, 2)),
    "bits": MultiDiscrete((2, 2, 2, 2)),
    "box": Continuous((-1.0, 0.0), (1.0, 0.5)),
    "square": Continuous((-2.0,) * 4, (2.0,) * 4),
    "unbounded": Continuous((-np.inf,), (np.inf,)),
}


def world(actions="discrete", seen="box", **options):
    return GymTask("World-v0", env_args={"actions": actions, "seen": seen}, **options)


def small(actions, **settings):
    usual = {"difficulty": "easy", "num_envs": 4, "evaluation_episodes": 3, "steps": 4 * 9 * 4}
    arguments = {"env_args": {"actions": actions}}
    return MemoryPPO(task="gym:World-v0", task_args=arguments, controller_args={"hidden_dim": 4}, **usual | settings)


def fitted(module, **trainer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice for a Trainer as it comes
        pl.Trainer(**PLAIN | trainer, max_epochs=1, accelerator="cpu").fit(module)
    return module


@pytest.mark.parametrize("name", SPACES)
def test_actions_reach_the_environment_in_its_own_form(name):
    """The environment itself asserts that its space contains each action, and its reward is their sum."""
    task, space = world(name), SPACES[name]
    assert task.action_space == space
    assert not hasattr(task, "num_actions")
    task.reset(3, torch.Generator().manual_seed(0))
    for _ in range(20):
        actions = space.random(3) * (3 if isinstance(space, Continuous) else 1)
        task.step(actions)
        for env, action in zip(task._batch._envs, actions.numpy(), strict=True):
            taken = env.unwrapped.taken
            if taken and name == "shifted":
                assert np.array_equal(taken[-1], action + np.array([5, -1]))
            elif taken:
                low, high = (space.low, space.high) if isinstance(space, Continuous) else (0, 9)
                assert np.array_equal(taken[-1].flatten(), np.clip(action, low, high).astype(taken[-1].dtype))


@pytest.mark.parametrize("name", SPACES)
def test_a_saved_batch_goes_on_with_the_same_bits(name):
    task = world(name, previous_action=True, previous_reward=True)
    actions = SPACES[name].random(25, 3)
    now = task.reset(3, torch.Generator().manual_seed(0))
    for action in actions[:12]:
        now = task.step(action)
    saved, again = task.state_dict(), world(name, previous_action=True, previous_reward=True)
    assert all(each.dtype == task.action_space.dtype for each in saved["actions"])
    restored = again.load_state_dict(saved, torch.Generator())
    assert torch.equal(restored.observation, now.observation)
    for action in actions[12:]:
        one, other = task.step(action), again.step(action)
        assert torch.equal(one.observation, other.observation)
        assert torch.equal(one.reward, other.reward)
        assert torch.equal(one.is_first, other.is_first)


@pytest.mark.parametrize("name", SPACES)
def test_a_rollout_and_its_update(name):
    task = world(name)
    model = make_actor_critic(task, "gru", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    actor = begin(task, model, 5, stream(0, "task"))
    trajectory, _ = collect(task, model, actor, 11, stream(0, "actions"))
    assert trajectory.actions.shape == (11, 5, *task.action_space.shape)
    assert trajectory.actions.dtype == task.action_space.dtype
    logits, _, _ = model(trajectory.observations, trajectory.initial_state, trajectory.is_first)
    log_probs = model.policy.log_prob(logits, trajectory.actions)
    torch.testing.assert_close(log_probs, trajectory.log_probs, rtol=1e-4, atol=1e-5)
    module = fitted(small(name))
    start = module.fresh_model()
    assert module.guard.total == 0
    assert not torch.equal(module.model.actor.weight, start.actor.weight)
    if isinstance(task.action_space, Continuous):
        assert (module.model.log_std != 0).all()


def test_greedy_evaluation_takes_the_mean():
    task = world("box")
    model = make_actor_critic(task, "gru", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    torch.nn.init.zeros_(model.actor.weight)
    model.actor.bias.data = torch.tensor([0.25, 9.0])  # the second is clipped to 0.5
    found = [evaluate(task, model, 8, stream(0, "test")) for _ in range(2)]
    assert found[0]["return_mean"] == found[1]["return_mean"]
    mean = 0.75 + 0.5  # and a random number of mean 0.5 at each step
    assert found[0]["return_mean"] / 8 == pytest.approx(mean, abs=0.25)


@pytest.mark.parametrize(("name", "seen"), [("several", "box"), ("box", "tuple"), ("discrete", "dict")])
def test_a_resumed_run_has_the_bits_of_one_that_went_through(tmp_path, monkeypatch, name, seen):
    monkeypatch.chdir(tmp_path)
    line = "--task gym:worlds:World-v0 --difficulty easy --num_envs 4 --controller_args.hidden_dim 4 --device cpu"
    line += f" --task_args.env_args.actions {name} --task_args.env_args.seen {seen} --evaluation_episodes 4"
    line += " --checkpoint_every 1 --evaluate_every 100"
    line += " --model.ppo.rollout_length 5 --task_args.previous_action true"
    monkeypatch.syspath_prepend(worlds.__file__.rpartition("/")[0])
    assert main([*f"fit {line} --steps 120 --out whole".split()]) == 0
    assert main([*f"fit {line} --steps 60 --out half --model.ppo.anneal false".split()]) == 0
    assert main([*f"fit {line} --steps 120 --out through --model.ppo.anneal false".split()]) == 0
    assert main(["fit", "--ckpt_path", "last", "--out", "half", "--steps", "120"]) == 0
    runs = [json.loads((tmp_path / run / "result.json").read_text()) for run in ("half", "through", "whole")]
    assert runs[0]["return_mean"] == runs[1]["return_mean"]
    assert runs[0]["env_steps"] == runs[1]["env_steps"] == 120
    assert runs[0]["memory_moved"] == runs[1]["memory_moved"]
    assert runs[2]["memory_moved"] != runs[1]["memory_moved"]


@pytest.mark.parametrize("name", ["pair", "named", "words", "graph", "endless", "whole box"])
def test_other_spaces_of_actions_are_refused_by_name(name):
    with pytest.raises(UsageError, match=r"gym:World-v0: its actions are .*; supported are Discrete.*TransformAction"):
        world(name)
    kind = type(worlds.ACTIONS[name]).__name__
    with pytest.raises(UsageError, match=kind):
        world(name)


@pytest.mark.parametrize("name", ["several", "box"])
def test_a_mask_of_actions_is_refused_by_name(name):
    task = GymTask("World-v0", env_args={"actions": name, "fault": "mask"})
    with pytest.raises(
        Stopped, match=f"action_mask is supported for Discrete actions only.*{type(SPACES[name]).__name__}"
    ):
        task.reset(2, torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="action_mask is supported for Discrete actions only"):
        fitted(MemoryPPO(task="gym:World-v0", task_args={"env_args": {"actions": name, "fault": "mask"}}, steps=9 * 64))


@pytest.mark.parametrize("name", ["several", "box"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [({"ppo": PPOConfig(draws=2)}, "ppo.draws 2 needs"), ({"objective": "supervised"}, "objective supervised needs")],
)
def test_shared_scripts_and_supervision_are_refused_by_name(name, settings, words):
    kind = type(SPACES[name]).__name__
    with pytest.raises(
        UsageError, match=f"{words} Discrete actions, and those of gym:World-v0 are {kind}: use .*draws 1"
    ):
        small(name, **settings)


@pytest.mark.parametrize("name", ["several", "box"])
def test_the_test_for_consequences_takes_every_kind_of_action(name):
    module = fitted(small(name, ppo=PPOConfig(consequences="tested", draws=1)))
    (parts,) = SPACES[name].shape
    assert len(module.credit.products) == module.credit.waves * parts
    assert torch.isfinite(module.credit.products).all()
    assert module.credit.squares.sum() > 0


@pytest.mark.parametrize("seen", worlds.SEEN)
def test_observations_of_every_kind_are_flattened_as_gymnasium_does(seen):
    task = world(seen=seen, image="flatten")
    now = task.reset(2, torch.Generator().manual_seed(0))
    space = worlds.SEEN[seen]
    assert now.observation.shape == (2, gymnasium.spaces.flatdim(space))
    env = gymnasium.make("World-v0", seen=seen)
    first, _ = env.reset(seed=task._seeds[0])
    expected = torch.as_tensor(gymnasium.spaces.flatten(space, first), dtype=torch.float32)
    assert torch.equal(now.observation[0], expected)


def test_pendulum_without_its_velocity():
    task = GymTask("Pendulum-v1", mask=[2])
    assert task.action_space == Continuous((-2.0,), (2.0,))
    now = task.reset(2, torch.Generator().manual_seed(0))
    whole = GymTask("Pendulum-v1").reset(2, torch.Generator().manual_seed(0))
    assert torch.equal(now.observation, whole.observation[:, :2])
    strong, stronger = (GymTask("Pendulum-v1") for _ in range(2))
    for one in (strong, stronger):
        one.reset(2, torch.Generator().manual_seed(0))
    one, other = strong.step(torch.full((2, 1), 2.0)), stronger.step(torch.full((2, 1), 50.0))
    assert torch.equal(one.observation, other.observation)
    assert torch.equal(one.reward, other.reward)
