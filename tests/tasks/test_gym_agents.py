"""Other projects' agents run on the Gymnasium environments without modification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

gymnasium = pytest.importorskip("gymnasium")

import memsuite.tasks.gym  # noqa: E402, F401

NAMES = ["memsuite/delayed_cue-easy-v0", "memsuite/distractor_nav-easy-v0"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # sb3's own
@pytest.mark.parametrize("name", NAMES)
def test_recurrent_ppo_of_sb3_contrib(name):
    contrib = pytest.importorskip("sb3_contrib")
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    envs = make_vec_env(name, n_envs=4, seed=0)
    agent = contrib.RecurrentPPO("MlpLstmPolicy", envs, n_steps=50, batch_size=50, n_epochs=1, seed=0)
    agent.learn(400)
    mean, _ = evaluate_policy(agent, envs, n_eval_episodes=4)
    assert 0 <= mean <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("native", [True, False])
def test_loop_in_the_manner_of_cleanrl(name, native):
    """The rollout and the update of cleanrl's ppo_atari_lstm.py, cut down to one epoch."""
    settings = {} if native else {"vectorization_mode": "sync"}
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(gymnasium.make_vec(name, num_envs=4, **settings))
    width, actions = envs.single_observation_space.shape[0], envs.single_action_space.n
    lstm, actor, critic = nn.LSTM(width, 16), nn.Linear(16, actions), nn.Linear(16, 1)
    parameters = [*lstm.parameters(), *actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    observation, _ = envs.reset(seed=0)
    done, state, finished = torch.zeros(4), (torch.zeros(1, 4, 16), torch.zeros(1, 4, 16)), 0
    for _ in range(3):
        rows = []
        state = tuple(part.detach() for part in state)
        for _ in range(50):
            state = tuple((1.0 - done).view(1, -1, 1) * part for part in state)
            hidden, state = lstm(torch.from_numpy(observation).unsqueeze(0), state)
            policy = torch.distributions.Categorical(logits=actor(hidden[0]))
            action = policy.sample()
            observation, reward, terminated, truncated, _ = envs.step(action.numpy())
            done = torch.from_numpy(np.logical_or(terminated, truncated)).float()
            finished += int(done.sum())
            rows.append((policy.log_prob(action), critic(hidden[0]).squeeze(1), torch.from_numpy(reward).float()))
        log_probs, values, rewards = (torch.stack(column) for column in zip(*rows, strict=True))
        loss = -(log_probs * (rewards - values).detach()).mean() + (rewards - values).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    assert finished >= 8
