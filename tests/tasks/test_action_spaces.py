"""What actions a task of one's own may have, and what the descriptor of an action space says of them."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import pytest
import torch

from memsuite.analysis.retention import of_draws, tasks_at
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.runs.ppo import PPOConfig
from memsuite.tasks import Anchors, CopyMemory, Task, get_task_config
from memsuite.tasks.actions import Continuous, Discrete, MultiDiscrete
from memsuite.types import TimeStep

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # Lightning's advice for a Trainer as it comes
PLAIN = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Echo(Task):
    """Two numbers are shown and are to be given back in the same step; episodes have four steps."""

    space = MultiDiscrete((2, 3))

    def __init__(self, horizon: int = 4) -> None:
        self._define(horizon, {"first": 2, "second": 3}, self.space)

    def reset(self, num_envs, generator):
        self.generator, self.num_envs, self.clock = generator, num_envs, 0
        return self._show(torch.zeros(num_envs), False)

    def _show(self, reward, ended):
        if self.clock == 0:
            self.asked = torch.stack([torch.randint(n, (self.num_envs,), generator=self.generator) for n in (2, 3)], 1)
        no = torch.zeros(self.num_envs, dtype=torch.bool)
        seen = MultiDiscrete((2, 3)).as_observation(self.asked)
        return TimeStep(seen, no | (self.clock == 0), reward, no | ended, no, None, no, no)

    def step(self, actions):
        reward = self.rewards(actions)
        self.clock = (self.clock + 1) % self.horizon
        return self._show(reward, self.clock == 0)

    def rewards(self, actions):
        return (actions == self.asked).float().mean(1)

    def anchors(self):
        return Anchors(math.nan, math.nan, math.nan)

    def window_anchor(self, steps):
        return math.nan

    def bits_to_remember(self):
        return math.nan

    def steps_to_remember(self):
        return 1

    def state_dict(self):
        return {"clock": self.clock, "asked": self.asked, "generator": self.generator.get_state()}

    def load_state_dict(self, state, generator):
        generator.set_state(state["generator"])
        self.generator, self.clock, self.asked = generator, state["clock"], state["asked"]
        self.num_envs = len(self.asked)
        return TimeStep(**{**vars(self._shown()), "reward": torch.zeros(self.num_envs)})

    def _shown(self):
        no = torch.zeros(self.num_envs, dtype=torch.bool)
        seen = MultiDiscrete((2, 3)).as_observation(self.asked)
        return TimeStep(seen, no | (self.clock == 0), torch.zeros(self.num_envs), no, no, None, no, no)


class Pointer(Echo):
    """The same, but the action is a real number that must be near the first of the two."""

    space = Continuous((-1.0,), (1.0,))

    def rewards(self, actions):
        return -(actions.clamp(-1, 1).squeeze(1) - self.asked[:, 0]).abs()


class Scripted(CopyMemory):
    """A script whose actions are said to be several numbers, which its targets are not."""

    def __init__(self, horizon: int = 50) -> None:
        super().__init__(horizon)
        self._define(horizon, self.layout, MultiDiscrete((2, 3)))


@pytest.mark.parametrize(("name", "low", "high"), [("Echo", 2.5, 3.9), ("Pointer", -1.0, -0.3)])
def test_a_task_of_ones_own_with_such_actions_is_learnt(name, low, high):
    """From that of a policy that does not look, about 1.7 and -2, to almost the best return."""
    ppo = PPOConfig(learning_rate=0.01, epochs=4, minibatches=2, entropy_coefficient=0.0)
    settings = {"num_envs": 64, "steps": 64 * 4 * 60, "evaluation_episodes": 64, "controller_args": {"hidden_dim": 16}}
    module = MemoryPPO(task=f"{__name__}.{name}", difficulty="easy", seed=1000, ppo=ppo, **settings)
    before = module.evaluate(64, "test")["return_mean"]
    pl.Trainer(**PLAIN, max_epochs=1, accelerator="cpu").fit(module)
    assert before < low
    assert module.evaluate(64, "test")["return_mean"] > high


@pytest.mark.parametrize("name", ["Echo", "Pointer"])
def test_such_a_task_is_asked_at_other_horizons(name):
    module = MemoryPPO(task=f"{__name__}.{name}", difficulty="easy")
    tasks = tasks_at(module, [4, 8])
    assert [task.horizon for task in tasks] == [4, 8]
    with pytest.raises(UsageError, match="scores no decision, so there is no success"):
        next(of_draws(module, tasks, 8))


def test_a_script_has_discrete_actions():
    with pytest.raises(UsageError, match="a ScriptedTask has Discrete ones"):
        get_task_config(f"{__name__}.Scripted", "easy").make()


def test_the_number_of_actions_stays_where_one_of_several_is_chosen():
    assert CopyMemory(50).action_space == Discrete(CopyMemory(50).num_actions)
    assert not hasattr(Echo(), "num_actions")


@pytest.mark.parametrize("space", [Discrete(4), MultiDiscrete((2, 3)), Continuous((-1.0, 0.0), (1.0, math.inf))])
def test_random_actions_have_the_declared_form(space):
    drawn = space.random(200, 3, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 3, *space.shape)
    assert drawn.dtype == space.dtype
    seen = space.as_observation(drawn)
    assert seen.shape == (200, 3, space.width)
    assert seen.dtype == torch.float32
    if isinstance(space, Continuous):
        assert seen[..., 1].min() == 0
        assert seen[..., 0].abs().max() == 1
    else:
        components = 1 if isinstance(space, Discrete) else len(space.nvec)
        assert (seen.sum(-1) == components).all()
        assert (drawn.reshape(600, -1).amin(0) == 0).all()
        sizes = [space.n] if isinstance(space, Discrete) else space.nvec
        assert (drawn.reshape(600, -1).amax(0) + 1).tolist() == list(sizes)
