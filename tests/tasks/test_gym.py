"""memsuite's tasks in Gymnasium: the registered environments behave like Gymnasium's own, alone and in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode  # noqa: E402

import memsuite.tasks.gym  # noqa: E402
from memsuite.errors import UsageError  # noqa: E402
from memsuite.tasks import PRESETS, TASKS, make_task  # noqa: E402


def test_every_preset_is_registered():
    names = {name for name in gymnasium.registry if name.startswith("memsuite/")}
    assert names == {f"memsuite/{task}-{difficulty}-v0" for task, difficulty in PRESETS}


@pytest.mark.parametrize("name", TASKS)
def test_single_environment_passes_the_checker(name):
    check_env(gymnasium.make(f"memsuite/{name}-easy-v0").unwrapped)


@pytest.mark.parametrize("name", TASKS)
def test_single_environment_shows_whole_episodes(name):
    env = gymnasium.make(f"memsuite/{name}-easy-v0", horizon=30)
    generator = np.random.default_rng(0)
    first, _ = env.reset(seed=3)
    episodes = []
    for _ in range(3):
        rewards, ended, steps = 0.0, False, 0
        while not ended:
            observation, reward, terminated, truncated, info = env.step(generator.integers(env.action_space.n))
            rewards, ended, steps = rewards + reward, terminated, steps + 1
            assert not truncated
            assert info["correct"] <= info["scored"]
            assert reward == info["correct"] or (name == "t_maze" and -1 < reward < 0)  # which has penalties besides
        assert steps == 30
        assert not observation.any()
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(0)
        episodes.append(env.reset()[0])
    assert np.array_equal(env.reset(seed=3)[0], first)


def test_arguments_reach_the_task_and_unknown_ones_do_not():
    env = gymnasium.make("memsuite/delayed_cue-easy-v0", horizon=12, num_cues=3)
    assert (env.unwrapped.task.horizon, env.unwrapped.task.num_cues) == (12, 3)
    with pytest.raises(UsageError, match="no argument of delayed_cue 'cues'"):
        gymnasium.make_vec("memsuite/delayed_cue-easy-v0", num_envs=2, cues=3)


@pytest.mark.parametrize("name", ["delayed_cue", "n_back", "distractor_nav", "t_maze"])
def test_batch_is_the_task_itself(name):
    envs = gymnasium.make_vec(f"memsuite/{name}-easy-v0", num_envs=16)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    shown, _ = envs.reset(seed=1)
    task = make_task(name, "easy")
    now = task.reset(16, memsuite.tasks.gym.generator_from(gymnasium.utils.seeding.np_random(1)[0]))
    for _ in range(task.horizon + 3):
        assert envs.observation_space.contains(shown)
        assert np.array_equal(shown, now.observation)
        actions = envs.action_space.sample()
        shown, reward, terminated, truncated, infos = envs.step(actions)
        now = task.step(torch.from_numpy(actions))
        assert np.array_equal(reward, now.reward)
        assert np.array_equal(terminated, now.terminated)
        assert not truncated.any()
        info = infos["final_info"] if terminated.all() else infos
        assert np.array_equal(info["scored"], now.scored)
        assert np.array_equal(info["correct"], now.correct)


def layout(infos):
    return {
        key: layout(value) if isinstance(value, dict) else (value.dtype, value.shape) for key, value in infos.items()
    }


def test_infos_are_laid_out_as_gymnasium_lays_them_out():
    settings = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
    ours = gymnasium.make_vec("memsuite/delayed_cue-easy-v0", num_envs=3, horizon=4)
    theirs = gymnasium.make_vec("memsuite/delayed_cue-easy-v0", num_envs=3, horizon=4, **settings)
    ours.reset(seed=0), theirs.reset(seed=0)
    for step in range(8):
        one, other = (envs.step(np.zeros(3, dtype=np.int64)) for envs in (ours, theirs))
        assert [(part.dtype, part.shape) for part in one[:4]] == [(part.dtype, part.shape) for part in other[:4]]
        assert layout(one[4]) == layout(other[4])
        if step % 4 == 3:
            assert np.array_equal(np.stack(one[4]["final_obs"]), np.stack(other[4]["final_obs"]))


def test_seeds_decide_a_batch():
    envs = gymnasium.make_vec("memsuite/copy_memory-easy-v0", num_envs=8)
    first, again, other = (envs.reset(seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(envs.reset(seed=[1, 2])[0], envs.reset(seed=[1, 2])[0])
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.ones(8, dtype=bool)})


def test_a_step_before_a_reset_and_an_action_that_there_is_not_are_refused():
    one = gymnasium.make("memsuite/copy_memory-easy-v0").unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded, match="no episode has begun"):
        one.step(0)
    one.reset(seed=0)
    batch = memsuite.tasks.gym.MemsuiteVectorEnv(2, "copy_memory", "easy")
    with pytest.raises(gymnasium.error.ResetNeeded, match="no episode has begun"):
        batch.step(np.zeros(2, np.int64))
    batch.reset(seed=0)
    most = one.action_space.n - 1
    for action in (-1, most + 1):
        with pytest.raises(gymnasium.error.InvalidAction, match=f"they are from 0 to {most}"):
            one.step(action)
        with pytest.raises(gymnasium.error.InvalidAction, match=f"they are from 0 to {most}"):
            batch.step(np.array([0, action]))
