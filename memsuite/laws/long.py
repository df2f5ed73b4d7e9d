"""Laws of long sequences, read at once: what goes wrong only where chunks meet, windows are full or products vanish."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.controllers.base import Controller
from memsuite.controllers.copies import in_precision
from memsuite.laws.cases import FEATURES, Case, drawn_like, whole
from memsuite.laws.compare import Finding, apart, prefixed, worse
from memsuite.laws.slopes import MEANT, side_by_side, unlike_in_single, unsloped, weighed

SIZES = (1e-6, -1e-6, 5e-7, -5e-7)  # so small that hardly any of the many kinks of a long sequence is stepped over
SHARE = 1e-3  # of what all steps contribute; a gradient that is cut anywhere lacks more


def long_gradients_are_slopes(controller: Controller, case: Case) -> Finding:
    """The gradient of all features of a sequence in all inputs is their slope, and autograd changes no feature."""
    found = Finding(0.0, SHARE)
    if unsloped(controller, case):
        return found
    x, direction = case.x.clone().requires_grad_(), drawn_like({"x": case.x}, seed=8)["x"]
    recorded, _ = whole(case)(controller, x, case.state)
    with torch.no_grad():  # all at once, as rows of one batch
        moved = side_by_side(case, [case.x, *(case.x + size * direction for size in SIZES)])
        features = whole(moved)(controller, moved.x, moved.state)[0].chunk(1 + len(SIZES), 1)
        _, up, down, less_up, less_down = (weighed(part) for part in features)
    wide, narrow = (up - down) / (SIZES[0] - SIZES[1]), (less_up - less_down) / (SIZES[2] - SIZES[3])
    parts = torch.zeros_like(case.x[..., 0])
    if recorded.requires_grad:
        (grad,) = torch.autograd.grad(weighed(recorded).sum(), x, allow_unused=True, materialize_grads=True)
        parts = (grad * direction).sum(-1)
    told, scale = parts.sum(0), parts.square().sum(0).sqrt().maximum(narrow.abs()).clamp(min=1e-3)
    # Where the two slopes differ there are kinks or chaos. Not a number is what a gradient becomes by that, too.
    error = ((told - narrow).abs() - 8 * (wide - narrow).abs()).clamp(min=0).div(scale).nan_to_num(0, 0, 0)
    row = int(error.argmax())
    where = (
        f"forward_sequence: the features of {case.steps} steps of row {row} change with its inputs by "
        f"{float(narrow[row]):.3g}, and their gradient says {float(told[row]):.3g}; is a state detached, as between "
        f"chunks? {MEANT}"
    )
    found = Finding(float(error.max()), SHARE, where)
    return worse(found, _recorded_alike(recorded.detach(), features[0], case))


def _recorded_alike(recorded: Tensor, unrecorded: Tensor, case: Case) -> Finding:
    assert case.steady is not None
    one, other = (part.masked_fill(~case.steady.unsqueeze(-1), 0) for part in (recorded, unrecorded))
    return prefixed("forward_sequence with autograd is not that without it", apart(FEATURES, one, other, other, case))


@torch.no_grad()
def long_single_precision_is_kept(controller: Controller, case: Case) -> Finding:
    """A float32 model reads many steps at once with the error of single precision, and nothing overflows."""
    double, exact = in_precision(controller, torch.float64), case.to(torch.float64)
    return unlike_in_single("forward_sequence", whole(case), (controller, case), (double, exact))
