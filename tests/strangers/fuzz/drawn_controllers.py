"""Controllers as a user may write them, made of parts and with a fault that a plan names."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import torch
from examples import RAISED
from torch import nn

from memsuite.controllers import Controller

FORMS = ("tensor", "tuple", "list", "dict", "nested", "clock", "double", "pair")
Named = collections.namedtuple("Named", ["h"])


BEGIN = {
    "batch second": lambda self, n: torch.zeros(self.width, n),
    "a named tuple": lambda self, n: Named(torch.zeros(n, self.width)),
    "an ordered dict": lambda self, n: collections.OrderedDict(h=torch.zeros(n, self.width)),
    "an int in the state": lambda self, n: (torch.zeros(n, self.width), 0),
    "None in the state": lambda self, n: (torch.zeros(n, self.width), None),
    "a text in the state": lambda self, n: {"h": torch.zeros(n, self.width), "name": "h"},
    "no batch": lambda self, n: (torch.zeros(n, self.width), torch.zeros(())),
    "a batch of its own": lambda self, n: torch.zeros(64, self.width),
    "a random beginning": lambda self, n: torch.rand(n, self.width),
    "no state": lambda self, n: None,
}
FEATURES = {
    "too wide": lambda y: torch.cat([y, y[:, :1]], 1),
    "too narrow": lambda y: y[:, 1:],
    "one row": lambda y: y[:1],
    "three dimensions": lambda y: y[None],
    "a tuple": lambda y: (y,),
    "nothing": lambda y: None,
    "whole numbers": lambda y: y.long(),
    "complex": lambda y: torch.complex(y, y),
    "infinite": lambda y: y / 0,
    "steep": lambda y: y + (0 * y).abs().sqrt(),
    "cut": lambda y: y.detach(),
}
OUTSIDE = ("step: remembers outside", "step: counts calls")  # as are these
RANDOM = {  # welcome where the pass that acts is the one that learns
    "random": lambda y: y + 0.1 * torch.randn_like(y),
    "mixing": lambda y: y - y.mean(0),
}
STEP = (
    "grows",
    "drifts",
    "writes its state",
    "writes its input",
    "remembers outside",
    "counts calls",
    "not finite later",
    "not finite on blanks",
    "features alone",
    "three results",
)
RESET = ("forgetful", "thorough", "never", "half", "another form")
SEQUENCE = (
    "twice as large",
    "no resets",
    "begins anew",
    "another last state",
    "a step late",
    "batch first",
    "features alone of a sequence",
)
INIT = ("half", "16 bits", "complex weights", "lazy", "no width", "width as text", "width 0", "width below 0", "NaN")
PLACES = ("__init__", "init_state", "forward_step", "reset_mask", "forward_sequence")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a controller is made of.

    Attributes:
        form: the structure of its state.
        width: of the state.
        outputs: width of the features.
        fault: what is wrong; empty if nothing is.
        at: the step from which on something is wrong.
        draws: environments that share a script.
        seed: of the weights.
        doubles: its weights have 64 bits.
        in_place: a reset writes into the state that it is given.
    """

    form: str
    width: int
    outputs: int
    fault: str
    at: int
    draws: int
    seed: int
    doubles: bool
    in_place: bool


PLAN = [Plan("tensor", 4, 4, "", 0, 1, 0, False, False)]


class Made(Controller):
    """h' = 0.9 h + W x, features V h, in the form of its plan and with its fault."""

    def __init__(self, input_dim: int, hidden_dim: int = 4) -> None:
        super().__init__()
        plan = PLAN[0]
        self.plan, self.input_dim, self.width, self.feature_dim = plan, input_dim, plan.width, plan.outputs
        self.w, self.v = nn.Linear(input_dim, plan.width), nn.Linear(plan.width, plan.outputs)
        self.calls, self.past = 0, 0.0
        self._raise("__init__")
        if plan.doubles:
            self.double()
        {
            "init: half": self.half,
            "init: 16 bits": self.bfloat16,
            "init: complex weights": lambda: setattr(self, "c", nn.Parameter(torch.zeros(2, dtype=torch.complex64))),
            "init: lazy": lambda: setattr(self, "lazy", nn.LazyLinear(3)),
            "init: no width": lambda: delattr(self, "feature_dim"),
            "init: width as text": lambda: setattr(self, "feature_dim", "4"),
            "init: width 0": lambda: setattr(self, "feature_dim", 0),
            "init: width below 0": lambda: setattr(self, "feature_dim", -2),
            "init: NaN": lambda: nn.init.constant_(self.w.weight, torch.nan),
        }.get(plan.fault, lambda: None)()

    def _raise(self, where: str) -> None:
        place, _, what = self.plan.fault.partition(" raises ")
        if place == where:
            raise RAISED[what]

    def _wrapped(self, h: torch.Tensor) -> Any:
        clock = h.new_zeros(len(h), dtype=torch.int64)
        return {
            "tensor": h,
            "tuple": (h,),
            "list": [h],
            "dict": {"h": h},
            "nested": {"a": (h, {"b": clock})},
            "clock": (h, clock),
            "double": h.double(),
            "pair": (h, h),
        }[self.plan.form]

    def _h(self, state: Any) -> torch.Tensor:
        if isinstance(state, torch.Tensor):
            return state.to(self.w.weight.dtype)
        return self._h(next(iter(state.values())) if isinstance(state, dict) else state[0])

    def init_state(self, batch_size: int, device: Any = None) -> Any:
        self._raise("init_state")
        if begin := BEGIN.get(self.plan.fault.removeprefix("begin: ")):
            return begin(self, batch_size)
        return self._wrapped(torch.zeros(batch_size, self.width, dtype=self.w.weight.dtype))

    def forward_step(self, x: torch.Tensor, state: Any) -> Any:
        self._raise("forward_step")
        fault, self.calls = self.plan.fault, self.calls + 1
        h = self._h(state)
        if fault == "step: writes its state":
            with torch.no_grad():
                h.mul_(0.5)
        if fault == "step: writes its input":
            x.clamp_(0.1, 0.2)
        h = 0.9 * h + self.w(x.to(h.dtype))
        if fault == "step: grows":
            h = torch.cat([h, h[:, :1]], 1)
        y = self.v(h[:, : self.width])
        if fault == "step: remembers outside":
            y, self.past = y + self.past, y.detach().mean()
        if fault == "step: counts calls":
            y = y + 0.3 * (self.calls % 7)
        if fault == "step: not finite later" and self.calls > self.plan.at:
            y = y / 0
        if fault == "step: not finite on blanks":
            y = y + 0.01 / x.abs().sum(1, keepdim=True)
        y = {**FEATURES, **RANDOM}.get(fault.removeprefix("features: "), lambda y: y)(y)
        new = self._wrapped(h)
        if fault == "step: drifts":
            new = self._wrapped(h.bfloat16())
        return {"step: features alone": y, "step: three results": (y, new, None)}.get(fault, (y, new))

    def reset_mask(self, state: Any, is_first: torch.Tensor) -> Any:
        self._raise("reset_mask")
        fault = self.plan.fault
        kept = {"reset: forgetful": 0.1}.get(fault, 0.0)
        first = torch.ones_like(is_first) if fault == "reset: thorough" and is_first.any() else is_first
        if fault == "reset: never" or (fault == "step: writes its state" and not is_first.any()):
            return state
        if fault == "reset: half":
            return self._reset(state, is_first.logical_and(torch.arange(len(is_first)) < 1), 0.0)
        found = self._reset(state, first, kept)
        return [found] if fault == "reset: another form" else found

    def _reset(self, state: Any, first: torch.Tensor, kept: float) -> Any:
        if isinstance(state, dict):
            return {name: self._reset(each, first, kept) for name, each in state.items()}
        if isinstance(state, tuple | list):
            return type(state)(self._reset(each, first, kept) for each in state)
        rows = first.view(-1, *[1] * (state.dim() - 1))
        if self.plan.in_place and not state.requires_grad:
            return state.masked_fill_(rows, 0) if not kept else state.mul_(torch.where(rows, kept, 1.0))
        return torch.where(rows, (kept * state).to(state.dtype), state)

    def forward_sequence(self, x: torch.Tensor, state: Any, is_first: torch.Tensor) -> Any:
        self._raise("forward_sequence")
        fault = self.plan.fault
        if fault == "sequence: begins anew":
            state = self.init_state(x.shape[1])
        if fault == "sequence: no resets":
            is_first = is_first & False
        y, new = super().forward_sequence(x, state, is_first)
        if fault == "sequence: another last state":
            new = self._wrapped(1.5 * self._h(new))
        if fault == "sequence: a step late":
            y = torch.cat([torch.zeros_like(y[:1]), y[:-1]])
        y = {"sequence: twice as large": 2 * y, "sequence: batch first": y.transpose(0, 1)}.get(fault, y)
        return y if fault == "sequence: features alone of a sequence" else (y, new)


def faults_of(draws: int) -> list[str]:
    """List the faults of a run whose environments share scripts or do not."""
    steps = [f"step: {name}" for name in STEP]
    found = [f"begin: {name}" for name in BEGIN] + [name for name in steps if draws == 1 or name not in OUTSIDE]
    found += [f"features: {name}" for name in (*FEATURES, *(RANDOM if draws == 1 else ()))]
    found += [f"reset: {name}" for name in RESET] + [f"sequence: {name}" for name in SEQUENCE]
    return (
        found + [f"init: {name}" for name in INIT] + [f"{place} raises {what}" for place in PLACES for what in RAISED]
    )
