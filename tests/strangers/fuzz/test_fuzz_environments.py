"""Gymnasium environments of users, made of drawn parts: played as they are, or refused in one line that names them."""

from __future__ import annotations

import dataclasses
import decimal
from typing import Any

import gymnasium
import numpy as np
import torch
from examples import RAISED, fuzz, judged
from gymnasium import spaces
from hypothesis import strategies as st

from memsuite.tasks.gym_task import GymTask
from memsuite.trial.task import try_task

NAME = "gym:Drawn-v0"


SPACES = {  # a space, and its observation of a clock
    "box": (spaces.Box(-99, 99, (2,), np.float32), lambda t: np.array([t, 1.0], np.float32)),
    "list": (spaces.Box(-99, 99, (2,), np.float32), lambda t: [float(t), 1.0]),
    "64 bits": (spaces.Box(-99, 99, (2,), np.float64), lambda t: np.array([t, 1.0])),
    "whole for real": (spaces.Box(-99, 99, (2,), np.float32), lambda t: np.array([t, 1])),
    "bytes": (spaces.Box(0, 255, (2, 1), np.uint8), lambda t: np.array([[t], [200]], np.uint8)),
    "real for bytes": (spaces.Box(0, 255, (2,), np.uint8), lambda t: np.array([float(t), 200.0])),
    "discrete": (spaces.Discrete(40), lambda t: t),
    "discrete from -3": (spaces.Discrete(40, start=-3), lambda t: np.int64(t - 3)),
    "several": (spaces.MultiDiscrete([40, 3]), lambda t: np.array([t, t % 3])),
    "bits": (spaces.MultiBinary(6), lambda t: np.array([t >> i & 1 for i in range(6)], np.int8)),
    "dict": (
        spaces.Dict({"a": spaces.Discrete(40), "b": spaces.Box(0, 1, (1,))}),
        lambda t: {"a": t, "b": np.array([0.5], np.float32), "more": 1},
    ),
    "tuple": (spaces.Tuple([spaces.Discrete(40), spaces.Box(0, 1, ())]), lambda t: (t, np.float32(0.5))),
}
SEEN = {  # wrong observations; the second is the space in which they are wrong, or any
    "nothing": (lambda o: None, "box"),
    "wide": (lambda o: np.append(np.asarray(o), 0), "box"),
    "narrow": (lambda o: np.asarray(o)[1:], "box"),
    "NaN": (lambda o: np.asarray(o) * np.nan, "box"),
    "infinite": (lambda o: np.asarray(o) + np.inf, "box"),
    "beyond 32 bits": (lambda o: np.asarray(o) + 1e300, "64 bits"),
    "complex": (lambda o: np.asarray(o) + 1j, "box"),
    "text": (lambda o: ["a", "b"], "box"),
    "an object": (lambda o: object(), "box"),
    "a fraction": (lambda o: np.asarray(o) + 0.5, "bytes"),
    "above a byte": (lambda o: np.asarray(o, int) + 256, "bytes"),
    "below a byte": (lambda o: np.asarray(o, int) - 256, "bytes"),
    "below the first": (lambda o: -1, "discrete"),
    "above the last": (lambda o: 40, "discrete"),
    "between two": (lambda o: 1.5, "discrete"),
    "one of the next": (lambda o: np.array([40, 0]), "several"),
    "one below": (lambda o: np.array([-1, 0]), "several"),
    "too many": (lambda o: np.append(o, 0), "several"),
    "a part too few": (lambda o: o[:1], "tuple"),
    "a part too many": (lambda o: (*o, 1), "tuple"),
    "a name too few": (lambda o: {"a": o["a"]}, "dict"),
    "a part that is wrong": (lambda o: {**o, "a": -2}, "dict"),
    "not a dict": (lambda o: [1, 2], "dict"),
}
REWARDS = {
    "None": None,
    "text": "1",
    "an array": np.ones(2),
    "a list": [1.0],
    "NaN": float("nan"),
    "infinite": np.float32("inf"),
    "huge": 10**400,
    "beyond 32 bits": 1e39,
    "complex": 1j,
    "complex of numpy": np.complex64(1),
    "decimal": decimal.Decimal(1),
}
ENDS = {
    "None": None,
    "text": "no",
    "an array": np.zeros(2, bool),
    "NaN": float("nan"),
    "a half": 0.5,
    "a list": [False],
}
MASKS = {"short": [1, 0], "nothing": [0, 0, 0], "text": "all", "an object": object()}
RETURNED = {
    "four values": lambda found: (*found[:3], {}),
    "six values": lambda found: (*found, 0),
    "nothing": lambda found: None,
    "one number": lambda found: 0,
    "info missing": lambda found: (*found[:4], None),
    "info as a list": lambda found: (*found[:4], []),
}
BEGUN = {"no info": lambda o, i: o, "None": lambda o, i: None, "info as text": lambda o, i: (o, "info")}
BUILT = ("no actions", "no observations", "actions of parts", "no space", "text for a space", "endless", "wordy limit")
PLACES = ("__init__", "reset", "step")
GOOD = (1.0, 1, True, np.float32(1), np.float64(1), np.int64(1), np.bool_(True), np.array(1.0), torch.tensor(1.0))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an environment is made of.

    Attributes:
        space: of :data:`SPACES`.
        length: steps of an episode.
        limit: steps after which it is cut.
        reward: of :data:`GOOD`, by its number.
        mask: it allows only the action 1, in its info.
        fault: what is wrong; empty if nothing is.
        at: the step at which it is wrong; 0 for the beginning, where there is one.
        seed: of what is done in it.
    """

    space: str
    length: int
    limit: int
    reward: int
    mask: bool
    fault: str
    at: int
    seed: int


PLAN = [Plan("box", 5, 9, 0, False, "", 1, 0)]


class Drawn(gymnasium.Env):
    """Shows the number of its step in the form of its plan."""

    def __init__(self, render_mode: Any = None) -> None:
        self.plan = plan = PLAN[0]
        self._raise("__init__")
        self.actions: list[int] = []
        self.action_space = spaces.Discrete(3, start=5)
        self.observation_space = SPACES[plan.space][0]
        fault = plan.fault.removeprefix("built: ")
        {
            "no actions": lambda: delattr(self, "action_space"),
            "no observations": lambda: delattr(self, "observation_space"),
            "actions of parts": lambda: setattr(self, "action_space", spaces.Tuple([spaces.Discrete(3)])),
            "no space": lambda: setattr(self, "observation_space", None),
            "text for a space": lambda: setattr(self, "action_space", "Discrete(3)"),
            "endless": lambda: setattr(self, "observation_space", spaces.Sequence(spaces.Discrete(2))),
        }.get(fault, lambda: None)()

    def _raise(self, where: str) -> None:
        place, _, what = self.plan.fault.partition(" raises ")
        if place == where:
            raise RAISED[what]

    def _seen(self) -> Any:
        seen = SPACES[self.plan.space][1](self.clock)
        change = SEEN.get(self.plan.fault.removeprefix("seen: "))
        return change[0](seen) if change and self.clock == self.plan.at else seen

    def _info(self) -> dict[str, Any]:
        if self.plan.fault.startswith("mask: ") and self.clock == self.plan.at:
            return {"action_mask": MASKS[self.plan.fault.removeprefix("mask: ")]}
        return {"action_mask": np.array([0, 1, 0], np.int8)} if self.plan.mask else {}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._raise("reset")
        self.clock = 0
        seen, info = self._seen(), self._info()
        return BEGUN.get(self.plan.fault.removeprefix("begun: "), lambda o, i: (o, i))(seen, info)

    def step(self, action: int) -> Any:
        self._raise("step")
        self.clock, plan = self.clock + 1, self.plan
        assert action == 6 or not plan.mask
        reward = GOOD[plan.reward] if action == 6 else 0.0
        over: Any = self.clock == plan.length
        now = self.clock == plan.at
        if plan.fault.startswith("reward: ") and now:
            reward = REWARDS[plan.fault.removeprefix("reward: ")]
        if plan.fault.startswith("end: ") and now:
            over = ENDS[plan.fault.removeprefix("end: ")]
        found = (self._seen(), reward, over, False, self._info())
        change = RETURNED.get(plan.fault.removeprefix("returned: ")) if now else None
        return change(found) if change else found


FAULTS = [
    *(f"seen: {name}" for name in SEEN),
    *(f"reward: {name}" for name in REWARDS),
    *(f"end: {name}" for name in ENDS),
    *(f"mask: {name}" for name in MASKS),
    *(f"returned: {name}" for name in RETURNED),
    *(f"begun: {name}" for name in BEGUN),
    *(f"built: {name}" for name in BUILT),
    *(f"{place} raises {what}" for place in PLACES for what in RAISED),
]


@st.composite
def plans(draw: Any) -> Plan:
    """Draw an environment; half of them have a fault."""
    fault = draw(st.one_of(st.just(""), st.sampled_from(FAULTS)))
    space = draw(st.sampled_from(list(SPACES)))
    length, limit = draw(st.integers(3, 9)), draw(st.integers(3, 12))
    at = draw(st.integers(1, min(length, limit) - 1))
    if fault.startswith("seen: "):
        space = SEEN[fault.removeprefix("seen: ")][1]
        at = draw(st.integers(0, at))
    mask, seed = draw(st.booleans()), draw(st.integers(0, 2**31 - 1))
    return Plan(space, length, limit, draw(st.integers(0, len(GOOD) - 1)), mask, fault, at, seed)


@fuzz(plans(), quick=60)
def test_environments(plan: Plan) -> None:
    """What has no fault is shown as Gymnasium flattens it, with its rewards and its ends where they are."""
    PLAN[0] = plan
    gymnasium.registry.pop("Drawn-v0", None)
    limit: Any = "twelve" if plan.fault == "built: wordy limit" else plan.limit
    gymnasium.register("Drawn-v0", entry_point=Drawn, max_episode_steps=limit)
    generator = torch.Generator().manual_seed(plan.seed)
    steps = min(plan.length, plan.limit)
    actions = torch.randint(3, (steps, 2), generator=generator)

    def build() -> tuple[GymTask, list[Any]]:
        task = GymTask("Drawn-v0")
        for _ in try_task(NAME, task, torch.device("cpu")):
            pass
        shown = [task.reset(2, generator)]
        shown += [task.step(action) for action in actions]
        return task, shown

    made = judged("environments", {plan.fault} - {""}, NAME, build)
    if made is None:
        return
    task, shown = made
    space, see = SPACES[plan.space]
    for clock, now in enumerate(shown[:-1]):
        row = torch.as_tensor(spaces.flatten(space, see(clock)), dtype=torch.float32)
        assert torch.equal(now.observation, row.expand(2, -1))
    rewards = torch.stack([now.reward for now in shown[1:]])
    assert torch.equal(rewards, (actions == 1).float() if not plan.mask else torch.ones(steps, 2))
    over, cut = plan.length <= plan.limit, plan.limit < plan.length
    assert [bool(now.terminated.all()) for now in shown] == [False] * steps + [over]
    assert [bool(now.truncated.all()) for now in shown] == [False] * steps + [cut]
    assert task.horizon == plan.limit
