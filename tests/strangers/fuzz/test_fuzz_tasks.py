"""Tasks of users, made of drawn parts: legal ones are played right, and others are refused in one line."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from examples import fuzz, judged
from hypothesis import strategies as st

from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig
from memsuite.tasks import Anchors, ScriptedTask, Task
from memsuite.trial import try_out
from memsuite.types import Script, TimeStep

KINDS = ("Scripted", "Stepped")
ANCHORS = {
    "equal": (0.5, 0.5, 0.5),
    "oracle below": (0.2, 0.6, 0.4),
    "negative": (-0.1, 0.5),
    "above 1": (0.2, 0.5, 1.5),
    "infinite": (0.2, -math.inf),
    "tensor": (torch.tensor(0.2), 0.5),
    "numpy": (np.float32(0.2), 0.5),
    "text": ("0.2", 0.5),
    "bool": (False, 0.5),
    "None": (None, 0.5),
    "unbound": (0.2, 0.5, 1.0, 3.0),
}
SCRIPT = {
    "a tuple": lambda s: (s.observations, s.targets, s.scored),
    "nothing": lambda s: None,
    "batch first": lambda s: _each(s, lambda v: v.transpose(0, 1)),
    "a step short": lambda s: _each(s, lambda v: v[1:]),
    "an environment more": lambda s: _each(s, lambda v: torch.cat([v, v[:, :1]], 1)),
    "wide": lambda s: _with(s, observations=torch.cat([s.observations, s.observations], -1)),
    "flat": lambda s: _with(s, observations=s.observations[..., 0]),
    "not finite": lambda s: _with(s, observations=s.observations / 0),
    "complex": lambda s: _with(s, observations=torch.complex(s.observations, s.observations)),
    "lists": lambda s: _with(s, observations=s.observations.tolist()),
    "an array": lambda s: _with(s, targets=s.targets.numpy()),
    "real targets": lambda s: _with(s, targets=s.targets.float()),
    "targets below 0": lambda s: _with(s, targets=s.targets - 9),
    "targets too large": lambda s: _with(s, targets=s.targets + 9),
    "real scores": lambda s: _with(s, scored=s.scored * 0.5),
    "never scored": lambda s: _with(s, scored=s.scored & False),
    "random observations": lambda s: _with(s, observations=s.observations + torch.rand(())),
    "random targets": lambda s: _with(s, targets=(s.targets + torch.randint(2, s.targets.shape)) % 2),
    "random scores": lambda s: _with(s, scored=s.scored | (torch.rand(s.scored.shape) < 0.5)),
    "numpy's randomness": lambda s: _with(s, observations=s.observations + float(np.random.rand())),  # noqa: NPY002
}
STEP = {
    "a tuple": lambda now: (now.observation, now.reward),
    "narrow": lambda now: _with(now, observation=now.observation[:, :-1]),
    "one reward": lambda now: _with(now, reward=now.reward.sum()),
    "a list of rewards": lambda now: _with(now, reward=now.reward.tolist()),
    "complex rewards": lambda now: _with(now, reward=torch.complex(now.reward, now.reward)),
    "no reward": lambda now: _with(now, reward=None),
    "NaN as a reward": lambda now: _with(now, reward=now.reward / 0),
    "numbers as ends": lambda now: _with(now, terminated=now.terminated.float()),
    "not finite": lambda now: _with(now, observation=now.observation / 0),
    "right unasked": lambda now: _with(now, correct=now.correct | True, scored=now.scored & False),
    "never first": lambda now: _with(now, is_first=now.is_first & False),
    "always first": lambda now: _with(now, is_first=now.is_first | True),
    "cut without an end": lambda now: _with(now, truncated=now.truncated | True, final_observation=None),
    "a narrow end": lambda now: _with(now, truncated=now.truncated | True, final_observation=now.observation[:, :1]),
    "an end that is not finite": lambda now: _with(
        now, truncated=now.truncated | True, terminated=now.terminated & False, final_observation=now.observation / 0
    ),
}
FIRST = {
    "not first": lambda now: _with(now, is_first=now.is_first & False),
    "nothing": lambda now: None,
    "an environment short": lambda now: _with(now, observation=now.observation[1:]),
}
STATE = ("forgets the clock", "forgets the target", "forgets what is shown", "holds an object", "holds nothing")
SIZES = ("horizon as text", "horizon 0", "horizon as a real number", "no actions", "no width", "undefined")
OTHER = (
    "endless",
    "raises",
    "remembers less than 0",
    "remembers a real number",
    "ends the process",
    "cannot be copied",
)


def _with(value: Any, **changes: Any) -> Any:
    return dataclasses.replace(value, **changes)


def _each(script: Script, change: Any) -> Script:
    return Script(*(change(getattr(script, name)) for name in ("observations", "targets", "scored")))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a task is made of.

    Attributes:
        kind: of :data:`KINDS`.
        horizon: steps of an episode.
        symbols: kinds of cues, and of actions.
        dtypes: whether a script has other kinds of numbers than declared, of the same values.
        anchors: whether they are known.
        fault: what is wrong; empty if nothing is.
        seed: of the weights and the episodes.
    """

    kind: str
    horizon: int
    symbols: int
    dtypes: bool
    anchors: bool
    fault: str
    seed: int


PLAN = [Plan("Scripted", 6, 3, False, True, "", 0)]


class Common(Task):
    """The first observation shows a symbol; the last step asks for it."""

    def __init__(self, horizon: Any = None) -> None:
        self.plan = plan = PLAN[0]
        fault = plan.fault.removeprefix("size: ")
        if fault == "undefined":
            return
        length = {"horizon as text": "6", "horizon 0": 0, "horizon as a real number": 6.0}.get(fault, plan.horizon)
        self._define(length, {"symbol": plan.symbols}, 0 if fault == "no actions" else plan.symbols)
        if fault == "no width":
            self.observation_dim = 0
        if plan.fault == "cannot be copied":
            self.lock = (each for each in ())
        if plan.fault == "ends the process":
            sys.exit(0)

    def anchors(self) -> Anchors:
        plan = self.plan
        known = (1 / plan.symbols, 1 / plan.symbols) if plan.anchors else (math.nan, math.nan, math.nan)
        return Anchors(*ANCHORS.get(plan.fault.removeprefix("anchors: "), known))

    def window_anchor(self, steps: int) -> float:
        return 1 / self.plan.symbols

    def bits_to_remember(self) -> float:
        return math.log2(self.plan.symbols)

    def steps_to_remember(self) -> Any:
        return {"remembers less than 0": -1, "remembers a real number": 2.5}.get(self.plan.fault, self.plan.horizon - 1)


class Scripted(ScriptedTask, Common):
    """Its episodes are drawn at once."""

    def script(self, num_envs: int, generator: torch.Generator) -> Any:
        plan = self.plan
        if plan.fault == "raises":
            raise KeyError("level")
        cue = torch.randint(plan.symbols, (num_envs,), generator=generator)
        observations = torch.zeros(plan.horizon, num_envs, plan.symbols)
        observations[0] = torch.nn.functional.one_hot(cue, plan.symbols).float()
        scored = torch.zeros(plan.horizon, num_envs, dtype=torch.bool)
        scored[-1] = True
        found = Script(observations, cue.expand(plan.horizon, -1), scored)
        if plan.dtypes:
            found = Script(observations.double(), found.targets.to(torch.int16), scored.to(torch.uint8))
        return SCRIPT.get(plan.fault.removeprefix("script: "), lambda s: s)(found)


class Stepped(Common):
    """Its episodes are stepped through."""

    def reset(self, num_envs: int, generator: torch.Generator) -> Any:
        self.generator, self.clock = generator, 0
        self.cue = torch.randint(self.plan.symbols, (num_envs,), generator=generator)
        no = torch.zeros(num_envs, dtype=torch.bool)
        found = self._show(no, no, no)
        return FIRST.get(self.plan.fault.removeprefix("first: "), lambda now: now)(found)

    def _show(self, ended: torch.Tensor, scored: torch.Tensor, correct: torch.Tensor) -> TimeStep:
        first = torch.full_like(ended, self.clock == 0)
        seen = torch.nn.functional.one_hot(self.cue, self.plan.symbols) * first[:, None]
        return TimeStep(seen.float(), first, correct.float(), ended, ended & False, None, scored, correct)

    def step(self, actions: torch.Tensor) -> Any:
        if self.plan.fault == "raises":
            raise KeyError("level")
        self.clock += 1
        ended = torch.full_like(self.cue, self.clock == self.plan.horizon, dtype=torch.bool)
        correct = ended & (actions == self.cue)
        if ended.all() and self.plan.fault != "endless":
            self.clock, self.cue = 0, torch.randint(self.plan.symbols, self.cue.shape, generator=self.generator)
        if self.plan.fault == "endless":
            ended = ended & False
        found = self._show(ended, ended, correct)
        return STEP.get(self.plan.fault.removeprefix("step: "), lambda now: now)(found)

    def state_dict(self) -> dict[str, Any]:
        fault = self.plan.fault
        held = {"generator": self.generator.get_state(), "clock": self.clock, "cue": self.cue}
        return {"state: holds an object": {**held, "self": object}, "state: holds nothing": {}}.get(fault, held)

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        generator.set_state(state["generator"])
        self.generator, self.clock, self.cue = generator, state["clock"], state["cue"]
        if self.plan.fault == "state: forgets the clock":
            self.clock = 1
        if self.plan.fault == "state: forgets the target":
            self.cue = (self.cue + 1) % self.plan.symbols
        no = torch.zeros(len(self.cue), dtype=torch.bool)
        shown = self._show(no, no, no)
        return _with(shown, observation=shown.observation + 1) if self.plan.fault.endswith("is shown") else shown


def faults_of(kind: str) -> list[str]:
    """List the faults of a kind of task."""
    own = [f"script: {name}" for name in SCRIPT]
    if kind == "Stepped":
        own = [f"step: {name}" for name in STEP] + [f"first: {name}" for name in FIRST]
        own += [f"state: {name}" for name in STATE] + ["endless"]
    return own + [f"anchors: {name}" for name in ANCHORS] + [f"size: {name}" for name in SIZES] + [*OTHER[1:]]


@st.composite
def plans(draw: Any) -> Plan:
    """Draw a task; half of them have a fault."""
    kind = draw(st.sampled_from(KINDS))
    fault = draw(st.one_of(st.just(""), st.sampled_from(faults_of(kind))))
    sizes = draw(st.integers(3, 9)), draw(st.integers(2, 5))
    return Plan(kind, *sizes, draw(st.booleans()), draw(st.booleans()), fault, draw(st.integers(0, 2**32 - 1)))


@fuzz(plans(), quick=60)
def test_tasks(plan: Plan) -> None:
    """What has no fault is played as it was made: right actions are all rewarded, and wrong ones never."""
    PLAN[0] = plan
    Common.__init__.__defaults__ = (plan.horizon,)

    def build() -> MemoryPPO:
        module = MemoryPPO(
            difficulty="easy",
            num_envs=8,
            steps=8 * plan.horizon,
            evaluation_episodes=4,
            task=f"test_fuzz_tasks.{plan.kind}",
            controller_args={"hidden_dim": 2},
            seed=plan.seed,
            ppo=PPOConfig(draws=1),
        )
        try_out(module.config, module.task, module.model, torch.device("cpu"))
        return module

    module = judged("tasks", {plan.fault} - {""}, plan.kind, build)
    if module is None:
        return
    task = module.task.fresh()
    now, rewards = task.reset(16, torch.Generator().manual_seed(plan.seed)), []
    cue = now.observation.argmax(-1)
    for _ in range(plan.horizon):
        now = task.step(cue if plan.seed % 2 else (cue + 1) % plan.symbols)
        rewards.append(now.reward)
    assert torch.stack(rewards).sum(0).tolist() == [float(plan.seed % 2)] * 16
    assert now.terminated.all()
    assert now.is_first.all()
    outcome = module.evaluate(4, "test")
    assert outcome["return_mean"] == pytest.approx(outcome["success"])
    assert module.course.full_task.horizon == plan.horizon
