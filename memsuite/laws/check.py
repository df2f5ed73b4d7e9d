"""All laws on one controller, with its retention before training and the cost of a step in both modes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from memsuite.analysis.retention import CUES, retention
from memsuite.blame import in_one_line
from memsuite.controllers.base import Controller
from memsuite.laws import laws
from memsuite.laws.cases import SHAPES, Case, in_precision, make_case, precision
from memsuite.laws.compare import Finding, worse

BOTH, DOUBLE = (torch.float64, torch.float32), (torch.float64,)
Law = Callable[[Controller, Case], Finding]
# The laws, in the order in which they are told, each with the precisions in which it is tried.
LAWS: dict[str, tuple[Law, tuple[torch.dtype, ...]]] = {
    "both modes agree": (laws.modes_agree, BOTH),
    "episodes are apart": (laws.episodes_are_apart, BOTH),
    "cuts are carried": (laws.cuts_are_carried, BOTH),
    "the gradient is the slope": (laws.the_gradient_is_the_slope, DOUBLE),
    "the future is unseen": (laws.the_future_is_unseen, DOUBLE),
    "resets erase": (laws.resets_erase, DOUBLE),
    "the state is bounded": (laws.the_state_is_bounded, DOUBLE),
    "precision is kept": (laws.precision_is_kept, DOUBLE),
    "rows are apart": (laws.rows_are_apart, BOTH),
    "the same twice": (laws.the_same_twice, DOUBLE),
}
COST_STEPS, COST_ROWS = 64, 16


@dataclass(frozen=True)
class Report:
    """What was found of a controller.

    Attributes:
        findings: by law, the worst of all cases and precisions.
        retention: before training, by the number of steps; empty where the input is too narrow for the cues.
        microseconds: of a step of one environment, by the mode, forward alone, in single precision.
    """

    findings: dict[str, Finding]
    retention: dict[int, float]
    microseconds: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether all laws hold."""
        return all(finding.holds for finding in self.findings.values())

    def broken(self) -> list[str]:
        """List the laws that do not hold."""
        return [law for law, finding in self.findings.items() if not finding.holds]

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        found = {law: {**asdict(one), "holds": one.holds} for law, one in self.findings.items()}
        return {"holds": self.holds, "laws": found, "retention": self.retention, "microseconds": self.microseconds}


def check(controller: Controller, horizons: Sequence[int] = (), cost: bool = False) -> Report:
    """Hold a controller to the laws, on copies of it in evaluation mode.

    Args:
        controller: any controller, built in or a user's own.
        horizons: numbers of steps at which its retention is measured.
        cost: whether the time of a step is measured too.

    Returns:
        What was found. A law that raises an exception is broken, and the finding says which.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kinds = {dtype: in_precision(controller, dtype).eval() for dtype in BOTH}
        findings = {law: _worst(run, [kinds[dtype] for dtype in dtypes]) for law, (run, dtypes) in LAWS.items()}
        single, wide = kinds[torch.float32], controller.input_dim > CUES
        try:
            kept = {steps: retention(single, steps) for steps in horizons if wide}
            return Report(findings, kept, _microseconds(single) if cost else {})
        except Exception:
            if all(finding.holds for finding in findings.values()):
                raise
            return Report(findings, {}, {})  # the laws have named what it raises


def _worst(law: Law, controllers: list[Controller]) -> Finding:
    """Return the worst finding over all cases; the first one that raises ends it."""
    found: Finding | None = None
    for controller in controllers:
        for shape in SHAPES:
            try:
                one = law(controller, make_case(controller, *shape))
            except Exception as error:
                kind = str(precision(controller)).removeprefix("torch.")
                return Finding(float("inf"), 0.0, f"{kind}: {in_one_line(error)}")
            found = one if found is None else worse(found, one)
    assert found is not None
    return found


@torch.no_grad()
def _microseconds(controller: Controller) -> dict[str, float]:
    """Measure a step of one environment in both modes: the best of three runs."""
    x = torch.randn(COST_STEPS, COST_ROWS, controller.input_dim)
    no = torch.zeros(COST_STEPS, COST_ROWS, dtype=torch.bool)
    ways = {"step": Controller.forward_sequence, "sequence": type(controller).forward_sequence}
    found = {}
    for name, run in ways.items():
        times = []
        for _ in range(3):
            state, began = controller.init_state(COST_ROWS), time.process_time()
            run(controller, x, state, no)
            times.append(time.process_time() - began)
        found[name] = 1e6 * min(times) / (COST_STEPS * COST_ROWS)
    return found
