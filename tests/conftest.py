"""Shared by all tests: one thread, a fixed seed, and an interactive task whose episodes end in every way."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import torch
from hypothesis import settings

from memsuite.tasks import Anchors, Task
from memsuite.types import TimeStep

# `make test-slow` takes the second for the laws of the controllers.
settings.register_profile("memsuite", deadline=None, derandomize=True, max_examples=25)
settings.register_profile("many", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("memsuite")
torch.set_num_threads(1)
# Processes that tests start have two threads by default. Beside other tests these would use up the cores by waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


# Files with tests of half a minute and more. One that is begun last keeps a single worker busy while the others wait.
LONG = ("test_pretended.py", "ops/build/", "bench/", "rl/test_recompute.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not any(part in item.nodeid for part in LONG))


@pytest.fixture(autouse=True, scope="session")
def _a_key_of_the_tests_own(tmp_path_factory):
    """Seal the runs of the tests with a key that is no user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


class Countdown(Task):
    """Episodes of random length that terminate or are truncated, with integer-coded observations.

    The observation is ``[episode number, steps into the episode]``; the reward is the action. It is made for tests of
    the stepping path: every observation identifies its episode and step.
    """

    def __init__(self, horizon: int = 7, num_actions: int = 3) -> None:
        self.horizon, self.observation_dim, self.num_actions = horizon, 2, num_actions

    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        self.generator, self.num_envs = generator, num_envs
        self.episode = torch.zeros(num_envs)
        self.clock = torch.zeros(num_envs)
        self.length = self._lengths()
        no = torch.zeros(num_envs, dtype=torch.bool)
        return TimeStep(self._observation(), ~no, torch.zeros(num_envs), no, no, None, no, no)

    def _lengths(self) -> torch.Tensor:
        return torch.randint(1, self.horizon + 1, (self.num_envs,), generator=self.generator)

    def _observation(self) -> torch.Tensor:
        return torch.stack([self.episode, self.clock], dim=1)

    def step(self, actions_B: torch.Tensor) -> TimeStep:
        self.clock = self.clock + 1
        final = self._observation()
        ended = self.clock >= self.length
        truncated = ended & (self.length % 2 == 0)
        self.episode = self.episode + ended
        self.clock = torch.where(ended, 0.0, self.clock)
        self.length = torch.where(ended, self._lengths(), self.length)
        return TimeStep(
            self._observation(),
            ended,
            actions_B.float(),
            ended & ~truncated,
            truncated,
            final,
            ended,
            torch.zeros_like(ended),
        )

    def anchors(self) -> Anchors:
        return Anchors(0.5, 0.5)

    def window_anchor(self, steps: int) -> float:
        return 0.5

    def bits_to_remember(self) -> float:
        return 0.0

    def steps_to_remember(self) -> int:
        return 0

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        raise NotImplementedError


@pytest.fixture
def countdown() -> Countdown:
    return Countdown()


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    """Close the figures of a test: matplotlib keeps every figure, and warns about the twenty-first in a process."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
