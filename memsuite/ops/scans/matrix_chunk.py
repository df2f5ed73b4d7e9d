"""The steps of a chunk of the matrix-state recurrence, taken together, in PyTorch's functions; differentiable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

CLOSE = 8  # steps that are taken together where channels decay on their own, which is no matrix product


class Inputs(NamedTuple):
    """The inputs of :func:`~memsuite.ops.scans.matrix_scan.matrix_scan` at some steps, time-major."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor
    reset: Tensor
    beta: Tensor | None = None
    erase: Tensor | None = None
    address: Tensor | None = None

    def at(self, steps: slice) -> Inputs:
        """Return the inputs at some of these steps."""
        return Inputs(*(None if x is None else x[steps] for x in self))  # type: ignore[arg-type]


class Within(NamedTuple):
    """What is left within a chunk, where C is its steps, and K the channels of the keys or 1.

    Attributes:
        same: whether step j is visible from step i, ``[B, 1, C, C]``.
        carried: whether an episode has begun in the chunk, so that the incoming state is not seen, ``[B, 1, C, 1]``.
        decay: what is left at step i of what was written at step j, ``[B, H, C, C, K]``.
        total: what is left of the incoming state at each step, ``[B, H, C, K]``.
        s0: the incoming state, ``[B, H, K, V]``.
    """

    same: Tensor
    carried: Tensor
    decay: Tensor
    total: Tensor
    s0: Tensor

    def recalled(self, x: Tensor, left: Tensor) -> Tensor:
        """Return what x finds in the incoming state; masked, not multiplied by zero."""
        return ((left * x) @ self.s0).masked_fill(self.carried, 0)


def guarded(inputs: Inputs, s0: Tensor) -> tuple[Tensor, Tensor]:
    """Run one chunk; if it has a value that is not finite, run it again step by step.

    In a product the steps of other episodes, and those to come, are multiplied by zero, and NaN times zero is NaN; a
    single step involves no others. On an accelerator this check is left out, because the host would wait for it.
    """
    y, after = chunk_forward(inputs, s0)
    return in_pieces(inputs, s0, 1) if spreads(y, after) else (y, after)


def spreads(*found: Tensor) -> bool:
    """Return whether a value that is not finite may have reached other steps; not asked on an accelerator."""
    return found[0].device.type == "cpu" and not bool(torch.isfinite(sum(x.sum() for x in found)))  # type: ignore[arg-type]


def pulled_back(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], flow: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return the gradients of a function's inputs from those of its outputs, inside an op.

    PyTorch calls an op with autograd switched off where a ``TorchDispatchMode`` asked for it, such as a counter of
    operations; it is switched on here.
    """
    included, excluded = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    excluded = excluded.remove(torch._C.DispatchKey.AutogradFunctionality)
    with torch.enable_grad(), torch._C._ForceDispatchKeyGuard(included, excluded):
        leaves = [x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(function(*leaves), leaves, flow)


def in_pieces(inputs: Inputs, s0: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Run one chunk, so many steps at a time."""
    outputs = []
    for begin in range(0, len(inputs.v), length):
        y, s0 = chunk_forward(inputs.at(slice(begin, begin + length)), s0)
        outputs.append(y)
    return torch.cat(outputs), s0


def chunk_forward(inputs: Inputs, s0: Tensor) -> tuple[Tensor, Tensor]:
    """Run one chunk; return its outputs, time-major, and the state after it.

    With decays of channels it takes fewer steps together, with arrays of ``[B, H, steps, steps, K]``: their factors
    alone could leave the range of the numbers.
    """
    channels = inputs.log_decay.dim() == 4
    if channels and len(inputs.v) > CLOSE:
        return in_pieces(inputs, s0, CLOSE)
    q, logs = _heads_first(inputs.q), _heads_first(inputs.log_decay if channels else inputs.log_decay.unsqueeze(-1))
    within = _within(logs, inputs.reset, s0)
    y = within.recalled(q, within.total)
    last = (within.total[..., -1:, :].mT * within.s0).masked_fill(within.carried[..., -1:, :], 0)
    for key, value in _writes(inputs, within):
        y = y + _met(q, key, within.decay) @ value
        last = last + (key * within.decay[..., -1, :, :]).mT @ value
    return y.permute(2, 0, 1, 3), last


def _heads_first(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0, 3)


def _within(logs: Tensor, reset: Tensor, s0: Tensor) -> Within:
    episode = reset.t().cumsum(-1).unsqueeze(1)  # number of episodes that began in this chunk, [B, 1, C]
    same = (episode.unsqueeze(-1) == episode.unsqueeze(-2)).tril()
    s0 = s0.masked_fill(reset[0].view(-1, 1, 1, 1), 0)
    return Within(same, (episode > 0).unsqueeze(-1), _passed(logs, same), logs.cumsum(-2).exp(), s0)


def _writes(inputs: Inputs, within: Within) -> list[tuple[Tensor, Tensor]]:
    """Return what is written along which keys: by the rule, which may have to find something in the state first."""
    k, v = _heads_first(inputs.k), _heads_first(inputs.v)
    if inputs.beta is not None:
        strength = inputs.beta.permute(1, 2, 0).unsqueeze(-1)
        system = (strength * _met(k, k, within.decay)).tril(-1)
        return [(k, _solved(system, strength * (v - within.recalled(k, within.total))))]
    if inputs.erase is None or inputs.address is None:
        return [(k, v)]
    e, r = _heads_first(inputs.erase), _heads_first(inputs.address)
    # What an address finds has decayed up to the step before.
    decay = pad(within.decay[..., :-1, :, :], (0, 0, 0, 0, 1, 0)).masked_fill(~within.same.tril(-1).unsqueeze(-1), 0)
    left = pad(within.total[..., :-1, :], (0, 0, 1, 0), value=1)
    found = _solved(_met(r, e, decay), within.recalled(r, left) + _met(r, k, decay) @ v)
    return [(k, v), (e, -found)]


def _passed(logs: Tensor, visible: Tensor) -> Tensor:
    """Return what is left at step i of what was written at step j, ``[B, H, C, C, K]`` from logs ``[B, H, C, K]``.

    The logarithms between the steps are added up for each pair. Differences of one running sum would lose digits after
    a strong decay, and would not be numbers after a decay to 0.
    """
    later = torch.ones_like(visible).tril(-1).unsqueeze(-1)
    between = logs.unsqueeze(-2).masked_fill(~later, 0).cumsum(-3)
    return between.masked_fill(~visible.unsqueeze(-1), -torch.inf).exp()


def _met(x: Tensor, y: Tensor, decay: Tensor) -> Tensor:
    """Return the products of the rows of ``x`` and the decayed rows of ``y``, ``[B, H, C, C]``."""
    if decay.shape[-1] == 1:
        return x @ y.mT * decay.squeeze(-1)
    return (x.unsqueeze(-2) * decay * y.unsqueeze(-3)).sum(-1)


def _solved(system: Tensor, known: Tensor) -> Tensor:
    """Return ``u`` with ``u_i = known_i - sum_{j<i} system_ij u_j``, a unit lower triangular system of a chunk.

    What a step finds, and so what the delta rule writes, depends on what the steps before it wrote.
    """
    u: Tensor = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    return u
