"""The steps of a chunk of the matrix-state recurrence, taken together, in PyTorch's functions; differentiable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

CLOSE = 8  # steps that are taken together where channels decay on their own, which is no matrix product


def chunk_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    s0: Tensor,
    beta: Tensor | None = None,
    erase: Tensor | None = None,
    address: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one chunk; arguments as :func:`~memsuite.ops.scans.matrix_scan.matrix_scan`'s.

    With decays of channels it takes fewer steps together, with arrays of ``[B, H, steps, steps, K]``: their factors
    alone could leave the range of the numbers.
    """
    if log_decay.dim() == 4 and len(v) > CLOSE:
        outputs = []
        for begin in range(0, len(v), CLOSE):
            at = slice(begin, begin + CLOSE)
            taken = at_steps(at, beta, erase, address)
            y, s0 = chunk_forward(q[at], k[at], v[at], log_decay[at], reset[at], s0, *taken)
            outputs.append(y)
        return torch.cat(outputs), s0
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    logs = (log_decay if log_decay.dim() == 4 else log_decay.unsqueeze(-1)).permute(1, 2, 0, 3)
    episode = reset.t().cumsum(-1).unsqueeze(1)  # number of episodes that began in this chunk, [B, 1, C]
    same = (episode.unsqueeze(-1) == episode.unsqueeze(-2)).tril()  # whether step j is visible from step i
    carried = (episode > 0).unsqueeze(-1)
    s0 = s0.masked_fill(reset[0].view(-1, 1, 1, 1), 0)
    decay, total = _passed(logs, same), logs.cumsum(-2).exp()  # what is left of step j, and of the incoming state

    def recalled(x: Tensor, left: Tensor) -> Tensor:
        """Return what x finds in the incoming state; masked, not multiplied by zero."""
        return ((left * x) @ s0).masked_fill(carried, 0)

    writes = [(k, v)]
    if beta is not None:
        strength = beta.permute(1, 2, 0).unsqueeze(-1)
        system = (strength * _met(k, k, decay)).tril(-1)
        writes = [(k, _solved(system, strength * (v - recalled(k, total))))]
    if erase is not None and address is not None:
        e, r = (x.permute(1, 2, 0, 3) for x in (erase, address))
        # What an address finds has decayed up to the step before.
        before = pad(decay[..., :-1, :, :], (0, 0, 0, 0, 1, 0)).masked_fill(~same.tril(-1).unsqueeze(-1), 0)
        found = _solved(
            _met(r, e, before), recalled(r, pad(total[..., :-1, :], (0, 0, 1, 0), value=1)) + _met(r, k, before) @ v
        )
        writes.append((e, -found))
    y, last = recalled(q, total), (total[..., -1:, :].mT * s0).masked_fill(carried[..., -1:, :], 0)
    for key, value in writes:
        y = y + _met(q, key, decay) @ value
        last = last + (key * decay[..., -1, :, :]).mT @ value
    return y.permute(2, 0, 1, 3), last


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


def at_steps(at: slice, *parts: Tensor | None) -> list[Any]:
    """Return these steps of each part; None for a part that is not there."""
    return [None if x is None else x[at] for x in parts]


def guarded(parts: list[Any], state: Tensor, also: list[Any]) -> tuple[Tensor, Tensor]:
    """Run one chunk; if it has a value that is not finite and a reset, run it again step by step.

    In a product the steps of other episodes are multiplied by zero, and NaN times zero is NaN; a single step involves
    no other episodes. On an accelerator this check is left out, because the host would have to wait for it.
    """
    q, k, v, log_decay, reset = parts
    y, after = chunk_forward(q, k, v, log_decay, reset, state, *also)
    return by_steps(parts, state, also) if crosses(reset, y, after) else (y, after)


def by_steps(parts: list[Any], state: Tensor, also: list[Any]) -> tuple[Tensor, Tensor]:
    """Run one chunk step by step; differentiable."""
    q, k, v, log_decay, reset = parts
    outputs = []
    for t in range(len(reset)):
        at = slice(t, t + 1)
        y, state = chunk_forward(q[at], k[at], v[at], log_decay[at], reset[at], state, *at_steps(at, *also))
        outputs.append(y)
    return torch.cat(outputs), state


def crosses(reset: Tensor, *found: Tensor) -> bool:
    """Whether a value that is not finite may have crossed a reset; not asked on an accelerator."""
    if reset.device.type != "cpu" or torch.isfinite(sum(x.sum() for x in found)):  # type: ignore[arg-type]
        return False
    return bool(reset.any())
