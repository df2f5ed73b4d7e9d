"""Laws of long sequences, read at once: what goes wrong only where chunks meet, windows are full or products vanish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from memsuite.controllers.base import Controller
from memsuite.controllers.copies import in_precision
from memsuite.laws.cases import FEATURES, Case, drawn_like, in_two, whole
from memsuite.laws.compare import Finding, apart, prefixed, worse
from memsuite.laws.slopes import MEANT, side_by_side, slope_in, unlike_in_single, unsloped, weighed

CUT = 260  # beyond 256 steps, and 70 before the end: chunks of 64 are in both parts
SIZE = 1e-6  # so small that hardly any of the many kinks of a long sequence is stepped over
SIZES = (SIZE, -SIZE, SIZE / 2, -SIZE / 2)
GATHERED = 0.03  # rounding of single precision that hundreds of steps gather; what overflows errs by more
SHARE = 1e-4  # of what all steps contribute; a gradient that is cut anywhere lacks more


def long_gradients_are_slopes(controller: Controller, case: Case) -> Finding:
    """The gradients of all features of a sequence in inputs and parameters are slopes, also across a cut.

    Autograd changes no feature either.
    """
    if unsloped(controller, case):
        return Finding(0.0, SHARE)
    x = case.x.clone().requires_grad_()
    learnt = {name: one for name, one in controller.named_parameters() if one.requires_grad and one.numel()}
    recorded, _ = in_two(case, CUT)(controller, x, case.state)
    grads = [torch.zeros_like(one) for one in (x, *learnt.values())]
    if recorded.requires_grad:
        loss = weighed(recorded).sum()
        grads = list(torch.autograd.grad(loss, [x, *learnt.values()], allow_unused=True, materialize_grads=True))
    found, features = _in_inputs(controller, case, grads[0])
    found = worse(found, _recorded_alike(recorded.detach(), features, case))
    for one in _in_parameters(controller, case, learnt, dict(zip(learnt, grads[1:], strict=True))):
        found = worse(found, one)
    return found


@torch.no_grad()
def _in_inputs(controller: Controller, case: Case, grad: Tensor) -> tuple[Finding, Tensor]:
    """Compare the gradient in the inputs with the slope of each row; return the features too."""
    direction = drawn_like({"x": case.x}, seed=8)["x"]
    # All at once, as rows of one batch.
    moved = side_by_side(case, [case.x, *(case.x + size * direction for size in SIZES)])
    features = in_two(moved, CUT)(controller, moved.x, moved.state)[0].chunk(1 + len(SIZES), 1)
    _, up, down, less_up, less_down = (weighed(part) for part in features)
    wide, narrow = (up - down) / (2 * SIZE), (less_up - less_down) / SIZE
    parts = (grad * direction).sum(-1)
    told, scale = parts.sum(0), parts.square().sum(0).sqrt().maximum(narrow.abs()).clamp(min=1e-3)
    error = _off(told - narrow, wide - narrow) / scale
    row = int(error.argmax())
    where = (
        f"forward_sequence: the features of {case.steps} steps of row {row} change with its inputs by "
        f"{float(narrow[row]):.3g}, and their gradient says {float(told[row]):.3g}; is a state detached, as between "
        f"chunks? {MEANT}"
    )
    return Finding(float(error.max()), SHARE, where), features[0]


def _off(error: Tensor, bend: Tensor) -> Tensor:
    """Return an error less what may be a kink or chaos, which makes two slopes differ and a gradient no number."""
    return (error.abs() - 8 * bend.abs()).clamp(min=0).nan_to_num(0, 0, 0)


@torch.no_grad()
def _in_parameters(
    controller: Controller, case: Case, learnt: Mapping[str, Tensor], grads: Mapping[str, Tensor]
) -> Iterator[Finding]:
    """Compare the gradients in all parameters with their slope, and only if that is wrong one by one, to name it."""
    directions = drawn_like(learnt, seed=9)

    def loss() -> Tensor:
        return weighed(in_two(case, CUT)(controller, case.x, case.state)[0]).sum()

    def error_of(names: list[str]) -> tuple[float, float, float]:
        told = sum(float((grads[name] * directions[name]).sum()) for name in names)
        moved = {name: learnt[name] for name in names}
        narrow = slope_in(loss, moved, directions, SIZE / 2)
        scale = max(1.0, abs(narrow))
        if not abs(told - narrow) > SHARE * scale:
            return 0.0, told, narrow
        wide = slope_in(loss, moved, directions, SIZE)
        return float(_off(torch.tensor(told - narrow), torch.tensor(wide - narrow))) / scale, told, narrow

    if not learnt or error_of([*learnt])[0] <= SHARE:
        return
    for name in learnt:
        error, told, narrow = error_of([name])
        what = f"forward_sequence: the features of {case.steps} steps change with {name} by {narrow:.3g}"
        yield Finding(error, SHARE, f"{what}, and their gradient says {told:.3g}; is it detached? {MEANT}")


def _recorded_alike(recorded: Tensor, unrecorded: Tensor, case: Case) -> Finding:
    assert case.steady is not None
    one, other = (part.masked_fill(~case.steady.unsqueeze(-1), 0) for part in (recorded, unrecorded))
    return prefixed("forward_sequence with autograd is not that without it", apart(FEATURES, one, other, other, case))


@torch.no_grad()
def long_single_precision_is_kept(controller: Controller, case: Case) -> Finding:
    """A float32 model reads many steps at once with an error that rounding can gather, and nothing overflows."""
    double, exact = in_precision(controller, torch.float64), case.to(torch.float64)
    return unlike_in_single("forward_sequence", whole(case), (controller, case), (double, exact), GATHERED)
