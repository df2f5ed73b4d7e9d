"""All laws on one controller, with its retention before training and the cost of a step in both modes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from memsuite.analysis.retention import CUES, retention
from memsuite.blame import home_of, in_one_line
from memsuite.controllers.base import Controller
from memsuite.controllers.copies import copied, in_precision
from memsuite.errors import unknown
from memsuite.laws import influences, long, memory, modes, outside, slopes
from memsuite.laws.cases import (
    FAR,
    LASTING,
    LONG,
    MANY,
    MIXED,
    PLAIN,
    SHAPES,
    UNBROKEN,
    WIDE,
    Case,
    Shape,
    make_case,
    perturb,
    takes_noise,
)
from memsuite.laws.compare import Finding, worse
from memsuite.trial.controller import BATCH, check_parameters, check_state

# The copies of a controller that are tried: in two precisions, with other parameters, and one that has not been called.
DOUBLE, SINGLE = "float64", "float32"
PERTURBED, UNREAD = "float64, all parameters perturbed", "float64, not called before"
BOTH = (DOUBLE, SINGLE)


class Trial(NamedTuple):
    """A part of a law.

    Attributes:
        law: finds the largest difference.
        copies: of the controller, on which it is tried.
        shapes: of the sequences that it is tried on.
    """

    law: Callable[[Controller, Case], Finding]
    copies: tuple[str, ...] = (DOUBLE,)
    shapes: tuple[Shape, ...] = SHAPES


# The laws, in the order in which they are told.
LAWS: dict[str, tuple[Trial, ...]] = {
    "both modes agree": (
        Trial(modes.modes_agree, BOTH),
        Trial(modes.modes_agree, (DOUBLE,), (LONG, WIDE)),
        Trial(modes.modes_agree, (PERTURBED,), (MIXED,)),
        Trial(modes.zeros_and_symbols_are_read, (DOUBLE,), (MIXED,)),
        Trial(modes.forks_go_on, (DOUBLE,), (PLAIN,)),
        Trial(modes.autograd_changes_nothing, (DOUBLE,), (MIXED,)),
    ),
    "episodes are apart": (Trial(modes.episodes_are_apart, BOTH),),
    "cuts are carried": (
        Trial(modes.cuts_are_carried, BOTH),
        Trial(modes.cuts_are_carried, (DOUBLE,), (LONG, UNBROKEN)),
    ),
    "the gradient is the slope": (
        Trial(slopes.the_gradient_is_the_slope, (DOUBLE,), (*SHAPES, FAR)),
        Trial(slopes.parameters_have_their_gradients, (PERTURBED,), (MIXED,)),
        Trial(long.long_gradients_are_slopes, (DOUBLE,), (LONG,)),
    ),
    "the future is unseen": (Trial(influences.the_future_is_unseen),),
    "resets erase": (
        Trial(memory.resets_erase),
        Trial(memory.resets_erase, (PERTURBED,), (MIXED,)),
        Trial(memory.resets_erase_within, (DOUBLE,), (MIXED,)),
    ),
    "the state is bounded": (
        Trial(memory.the_state_is_bounded, (SINGLE,)),  # where init_state has the right kinds, if anywhere
        Trial(memory.whole_numbers_do_not_overflow, (DOUBLE,), (PLAIN,)),
        Trial(outside.nothing_piles_up, (DOUBLE,), (PLAIN,)),
    ),
    "precision is kept": (
        Trial(slopes.precision_is_kept),
        Trial(slopes.no_half_precision_inside, (DOUBLE,), (MANY,)),
        Trial(slopes.single_precision_is_kept, (SINGLE,), (MIXED,)),
        Trial(long.long_single_precision_is_kept, (SINGLE,), (LASTING,)),
    ),
    "rows are apart": (
        Trial(influences.rows_are_apart, BOTH),
        Trial(influences.rows_are_apart, (DOUBLE,), (WIDE,)),
        Trial(influences.one_row_spoils_no_other, (DOUBLE,), (PLAIN,)),
    ),
    "the same twice": (
        Trial(influences.the_same_twice),
        Trial(influences.parameters_are_read_anew, (UNREAD,), (MIXED,)),
        Trial(outside.the_process_is_left_alone, (DOUBLE,), (PLAIN,)),
    ),
    "arguments are unchanged": (Trial(memory.arguments_are_unchanged, (DOUBLE,), (MIXED,)),),
}
IGNORES_DEVICE = (
    "init_state ignores the device that it is given, so that the controller runs on a CPU alone; pass device=device "
    "where it makes a tensor"
)
COST_STEPS, COST_ROWS = 64, 16


@dataclass(frozen=True)
class Report:
    """What was found of a controller.

    Attributes:
        findings: by law, the worst of all cases and precisions.
        retention: before training, by the number of steps; empty where the input is too narrow for the cues.
        microseconds: of a step of one environment, by the mode, forward alone, in single precision.
        notes: what breaks no law on a CPU, a line each.
    """

    findings: dict[str, Finding]
    retention: dict[int, float]
    microseconds: dict[str, float]
    notes: tuple[str, ...] = ()

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
        measured = {"retention": self.retention, "microseconds": self.microseconds}
        return {"holds": self.holds, "laws": found, **measured, "notes": list(self.notes)}


def check(
    controller: Controller, horizons: Sequence[int] = (), cost: bool = False, laws: Iterable[str] = tuple(LAWS)
) -> Report:
    """Hold a controller to the laws, on copies of it in evaluation mode.

    Args:
        controller: any controller, built in or a user's own.
        horizons: numbers of steps at which its retention is measured.
        cost: whether the time of a step is measured too.
        laws: names of those that are tried, of ``LAWS``; all by default.

    Returns:
        What was found. A law that raises an exception is broken, and the finding says which.

    Raises:
        UsageError: one line, if it cannot be copied, or has parameters that no run trains, such as complex ones, or a
            state that is no tree of tensors with the batch first; or if there is no law of a name.
    """
    for law in (laws := list(laws)):
        if law not in LAWS:
            raise unknown("law", law, LAWS)
    who = f"{type(controller).__name__}{home_of(type(controller))}"
    check_parameters(who, controller)
    _check_state(who, controller)
    with outside.own_process(0):
        kinds = {
            DOUBLE: in_precision(controller, torch.float64).eval(),
            SINGLE: in_precision(controller, torch.float32).eval(),
        }
        kinds |= {PERTURBED: perturb(copied(kinds[DOUBLE])), UNREAD: copied(kinds[DOUBLE])}
        noise = takes_noise(kinds[DOUBLE])
        findings = {law: _worst(LAWS[law], kinds, noise) for law in laws}
        single, wide = kinds[SINGLE], controller.input_dim > CUES
        notes = _notes_on_weights(kinds[PERTURBED])
        if memory.ignores_device(single):
            notes = (IGNORES_DEVICE, *notes)
        try:
            kept = {steps: retention(single, steps) for steps in horizons if wide}
            return Report(findings, kept, _microseconds(single) if cost else {}, notes)
        except Exception:
            if all(finding.holds for finding in findings.values()):
                raise
            return Report(findings, {}, {}, notes)  # the laws have named what it raises


def _check_state(who: str, controller: Controller) -> None:
    try:
        begun = controller.init_state(BATCH)
    except Exception:  # the laws name what it raises
        return
    check_state(who, "init_state", begun, None)


def _notes_on_weights(controller: Controller) -> tuple[str, ...]:
    try:
        return tuple(outside.notes_on_weights(controller, make_case(controller, *MIXED, noise=False)))
    except Exception:  # the laws name what it raises
        return ()


def _worst(trials: tuple[Trial, ...], kinds: dict[str, Controller], noise: bool) -> Finding:
    """Return the worst finding over all cases; the first one that raises ends it."""
    found: Finding | None = None
    for law, copies, shapes in trials:
        for name in copies:
            for shape in shapes:
                try:
                    # Drawn with another copy, so that nothing has called the one that nothing else reads.
                    case = make_case(kinds[name if name in BOTH else DOUBLE], *shape, noise=noise)
                    one = law(kinds[name], case)
                except Exception as error:
                    return Finding(float("inf"), 0.0, f"{name}: {in_one_line(error)}")
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
