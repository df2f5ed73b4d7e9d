"""Evaluation does not affect training, whatever a user's model, task or environment keeps or draws."""

import random
from collections import Counter

import gymnasium
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_lightning import PLAIN, same

from memsuite.controllers import CONTROLLERS, Controller
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig, evaluate, stream
from memsuite.rl.actor_critic import ActorCritic, make_actor_critic
from memsuite.tasks import Anchors, Task, make_task
from memsuite.tasks.gym_task import GymTask
from memsuite.types import TimeStep

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # Lightning's advice for a Trainer as it comes
OPEN = Counter()


class Leaky(Controller):
    """h' = 0.9 h + W x."""

    def __init__(self, input_dim, hidden_dim=4):
        super().__init__()
        self.input_dim, self.feature_dim, self.seen = input_dim, hidden_dim, []
        self.w = torch.nn.Linear(input_dim, hidden_dim)

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, self.feature_dim)

    def forward_step(self, x, state):
        state = 0.9 * state + self.w(x)
        return state, state

    def reset_mask(self, state, is_first):
        return state.masked_fill(is_first[:, None], 0)


class Counting(Leaky):
    """Its features depend on the number of calls, which it keeps outside its state."""

    def forward_sequence(self, x, state, is_first):
        self.seen.append(len(x))
        features, state = super().forward_sequence(x, state, is_first)
        return features + 0.1 * len(self.seen), state


class Restless(Leaky):
    """Draws from Python's generator when it reads a sequence."""

    def forward_sequence(self, x, state, is_first):
        features, state = super().forward_sequence(x, state, is_first)
        return features + 1e-5 * random.random(), state


class Lists(Task):
    """Guess whether a number is above one half; the clock, the numbers and a history are in containers."""

    def __init__(self, horizon=5):
        self._define(horizon, {"x": 1}, 2)
        self.clock, self.running, self.history = [0], {}, []

    def reset(self, num_envs, generator):
        self.running.update(generator=generator, x=torch.rand(num_envs, 1, generator=generator))
        self.clock[0] = 0
        return self._show(torch.zeros(num_envs, dtype=torch.bool), False)

    def _show(self, correct, ended):
        no = torch.zeros_like(correct)
        first, end = torch.full_like(no, self.clock[0] == 0), torch.full_like(no, ended)
        return TimeStep(self.running["x"], first, correct.float(), end, no, None, ~no, correct)

    def step(self, actions):
        correct = actions == (self.running["x"][:, 0] > 0.5).long()
        self.clock[0] = (self.clock[0] + 1) % self.horizon
        self.history.append(correct)
        self.running["x"] = torch.rand(len(actions), 1, generator=self.running["generator"])
        return self._show(correct, self.clock[0] == 0)

    def anchors(self):
        return Anchors(0.5, 0.5)

    def window_anchor(self, steps):
        return 1.0

    def bits_to_remember(self):
        return 0.0

    def steps_to_remember(self):
        return 0

    def state_dict(self):
        return {"x": self.running["x"], "clock": self.clock, "generator": self.running["generator"].get_state()}

    def load_state_dict(self, state, generator):
        generator.set_state(state["generator"])
        self.clock[0] = state["clock"][0]
        self.running.update(generator=generator, x=state["x"])
        return self._show(torch.zeros(len(state["x"]), dtype=torch.bool), False)


class Restive(gymnasium.Env):
    """Its episodes' lengths come from Python's generator; action 1 ends one; each open environment counts itself."""

    def __init__(self, render_mode=None):
        self.action_space, self.observation_space = spaces.Discrete(2), spaces.Box(0, 1, (1,), np.float32)
        OPEN["now"] += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = random.randint(2, 6)
        return np.full(1, self.np_random.random(), np.float32), {}

    def step(self, action):
        self.left -= 1
        observation = np.full(1, self.np_random.random(), np.float32)
        return observation, float(observation[0]), self.left == 0 or action == 1, False, {}

    def close(self):
        OPEN["now"] -= 1


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gymnasium.register("Restive-v0", entry_point=Restive, max_episode_steps=6)


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "delayed_cue", "controller": f"{__name__}.Counting"},
        {"task": "delayed_cue", "controller": f"{__name__}.Restless", "ppo": PPOConfig(draws=1, epochs=1)},
        {"task": f"{__name__}.Lists", "ppo": PPOConfig(rollout_length=3)},
        {"task": "gym:Restive-v0"},
    ],
    ids=["counter", "Python's generator", "containers", "environment"],
)
def test_how_often_it_evaluates_changes_nothing_of_training(settings):
    modules = []
    for every in (1, 100):
        random.seed(0)
        module = MemoryPPO(difficulty="easy", horizon=6, num_envs=4, steps=4 * 6 * 6, evaluation_episodes=8, **settings)
        pl.Trainer(**PLAIN, max_epochs=1, val_check_interval=min(every, 6), check_val_every_n_epoch=None).fit(module)
        modules.append(module)
    assert same(*modules)


def test_an_evaluation_does_not_depend_on_what_was_drawn_before():
    task = GymTask("Restive-v0")
    model = make_actor_critic(task, "gru", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    found = []
    for seed in (1, 2):
        random.seed(seed)
        found.append(evaluate(task, model, 70, stream(0, "test")))
    assert found[0]["return_mean"] == found[1]["return_mean"]
    assert found[0]["return_low"] == found[1]["return_low"]


class Guessing(Controller):
    """Ignores what it sees, and guesses one of eight cues as the task draws them, at the beginning of an episode."""

    def __init__(self, input_dim):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, 8

    def init_state(self, batch_size, device=None):
        return torch.full((batch_size, 1), -1.0)

    def forward_step(self, x, state):
        if (state < 0).all():
            state = torch.randint(8, (len(x), 1)).float()
        return torch.nn.functional.one_hot(state[:, 0].long().clamp(min=0), 8).float(), state

    def reset_mask(self, state, is_first):
        return state.masked_fill(is_first[:, None], -1.0)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_what_a_model_draws_is_not_what_the_episodes_are_drawn_from(name):
    task = make_task("delayed_cue", "medium", vocabulary=8)
    model = make_actor_critic(task, f"{__name__}.Guessing", {}, "memory", stream(0, "weights"))
    with torch.no_grad():
        model.actor.weight.zero_()
        model.actor.weight[:8] = 9 * torch.eye(8)
        model.actor.bias.zero_()
    found = evaluate(task, model, 1024, stream(0, name))
    assert abs(found["success"] - 1 / 8) < 4 * (7 / 64 / 1024) ** 0.5


def first_observations(task: Task, favourite: int, monkeypatch) -> list[torch.Tensor]:
    model = make_actor_critic(task, "gru", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    torch.nn.init.zeros_(model.actor.weight)
    model.actor.bias.data[favourite] = 5
    seen: list[torch.Tensor] = []
    began = type(task).reset

    def reset(self, *given):
        seen.append((timestep := began(self, *given)).observation)
        return timestep

    monkeypatch.setattr(type(task), "reset", reset)
    evaluate(task, model, 150, stream(0, "test"))
    monkeypatch.setattr(type(task), "reset", began)
    return seen


def test_two_policies_are_asked_the_same_episodes(monkeypatch):
    found = [first_observations(GymTask("Restive-v0"), favourite, monkeypatch) for favourite in (0, 1)]
    assert [len(part) for part in found[0]] == [64, 64, 22]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert not torch.equal(found[0][0], found[0][1])


def test_environments_are_closed():
    before = OPEN["now"]
    module = MemoryPPO(task="gym:Restive-v0", difficulty="easy", num_envs=4, steps=4 * 6 * 2, evaluation_episodes=70)
    assert OPEN["now"] == before
    module.evaluate(70, "test")
    assert OPEN["now"] == before
    pl.Trainer(**PLAIN, max_epochs=1).fit(module)
    assert OPEN["now"] == before


class Locked(Lists):
    """Holds an attribute that cannot be copied."""

    def __init__(self, horizon=5):
        super().__init__(horizon)
        self.open = (one for one in range(3))


def test_a_task_that_cannot_be_copied_is_told():
    with pytest.raises(UsageError, match=r"task Locked cannot be copied .* define its method fresh"):
        Locked().fresh()


def test_the_mode_is_put_back_when_an_evaluation_fails():
    model = ActorCritic(Leaky(1), 2)
    task = Lists()
    task.step = None
    with pytest.raises(TypeError):
        evaluate(task, model, 4, stream(0, "test"))
    assert model.training


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_task_that_asks_for_no_memory_gets_every_controller(name):
    task = Lists()
    model = make_actor_critic(task, name, {"memory_horizon": task.steps_to_remember()}, "memory", stream(0, "weights"))
    assert evaluate(task, model, 4, stream(0, "test"))["episodes"] == 4
