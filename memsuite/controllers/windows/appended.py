"""A cache of the last steps moves on by one: without a copy where autograd is off.

There, a cache is a view of a longer buffer, and its next step is written behind its end. No view changes by that,
because none shows what is behind its end. The buffer knows up to where it is written, so that a second continuation of
the same state finds the place taken, and copies the cache. A buffer has room for half a cache of further steps, which
therefore share the cost of one copy.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

WRITTEN = "memsuite_written"  # attribute of a buffer: how many of its steps are written, or about to be
TAKING = threading.Lock()


def appended(cache_BCW: Tensor, new_B1W: Tensor) -> Tensor:
    """Return a cache without its oldest step and with a new one at its end.

    Args:
        cache_BCW: the last C steps, the newest at the end.
        new_B1W: the next step.
    """
    if not _in_place(cache_BCW) or cache_BCW.dtype != new_B1W.dtype:
        return _copied(cache_BCW, new_B1W)
    steps, buffer, end = cache_BCW.shape[1], cache_BCW._base, _take_place(cache_BCW)
    if buffer is None or end is None:
        buffer, end = _buffer_of(cache_BCW, written=steps + 1), steps
    buffer[:, end] = new_B1W.squeeze(1)
    return buffer[:, end + 1 - steps : end + 1]


def emptied(cache_BCW: Tensor, rows_N: Tensor) -> Tensor:
    """Return a copy of a cache with zeros in some rows.

    Args:
        cache_BCW: the cache.
        rows_N: the numbers of the rows.
    """
    if not _in_place(cache_BCW):
        return cache_BCW.index_fill(0, rows_N, 0)
    steps = cache_BCW.shape[1]
    return _buffer_of(cache_BCW, written=steps)[:, :steps].index_fill_(0, rows_N, 0)


def _buffer_of(cache_BCW: Tensor, written: int) -> Tensor:
    """Return a buffer that begins with a copy of a cache; the room behind it is zeros, because a state may be saved."""
    batch, steps, width = cache_BCW.shape
    buffer = torch.cat([cache_BCW, cache_BCW.new_zeros(batch, max(1, steps // 2), width)], 1)
    setattr(buffer, WRITTEN, written)
    return buffer


def _in_place(cache_BCW: Tensor) -> bool:
    """Return whether a step may be written behind a cache: on a CPU, where autograd keeps nothing of it."""
    recorded = torch.is_grad_enabled() or torch.is_inference_mode_enabled() or cache_BCW.requires_grad
    return not recorded and cache_BCW.device.type == "cpu" and not torch.compiler.is_compiling()


def _take_place(cache_BCW: Tensor) -> int | None:
    """Take the place of the next step in the buffer of a cache; None without a buffer or room, or if it is taken."""
    buffer = cache_BCW._base
    if buffer is None or cache_BCW.stride() != buffer.stride():
        return None
    end = cache_BCW.storage_offset() // buffer.stride(1) + cache_BCW.shape[1]
    alike = len(cache_BCW) == len(buffer) and cache_BCW.shape[2] == buffer.shape[2]
    with TAKING:  # several threads may go on from one state
        if not alike or getattr(buffer, WRITTEN, None) != end or end == buffer.shape[1]:
            return None
        setattr(buffer, WRITTEN, end + 1)
    return end


def _copied(cache_BCW: Tensor, new_B1W: Tensor) -> Tensor:
    """Return a copy of a cache without its oldest step and with a new one."""
    if torch.is_grad_enabled():
        return _Appended.apply(cache_BCW, new_B1W)  # type: ignore[no-any-return, no-untyped-call]
    return torch.cat([cache_BCW[:, 1:], new_B1W], dim=1)


class _Appended(torch.autograd.Function):
    """The same with a gradient, which is written once, and not filled with zeros."""

    @staticmethod
    def forward(ctx: Any, cache_BCW: Tensor, new_B1W: Tensor) -> Tensor:
        """Drop the oldest step and append the new one."""
        return torch.cat([cache_BCW[:, 1:], new_B1W], dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the cache, whose oldest step was dropped, and of the new step."""
        return torch.cat([torch.zeros_like(grad[:, :1]), grad[:, :-1]], dim=1), grad[:, -1:]
