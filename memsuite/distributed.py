"""The processes of one run: their number, the rank of this one, and the collectives between them.

In a run of one process every function returns its input at no cost. In a run of several processes each call is a
collective: all processes must make the same calls in the same order, so no call may depend on a value that only one
of them knows.
"""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils import _pytree as pytree

from memsuite.errors import UsageError

LOST = re.compile(r"gloo|NCCL|ncclRemote|Connection (closed|reset)|Broken pipe|Socket", re.IGNORECASE)


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def total(values: Tensor) -> Tensor:
    """Sum over the processes, elementwise; every process gets the same bits."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def mean(values: Tensor) -> Tensor:
    """Average over the processes, elementwise; every process gets the same bits."""
    return total(values) / world_size() if world_size() > 1 else values


def variance(values: Tensor) -> Tensor:
    """Return the unbiased variance of the values of all processes, which must hold equally many; NaN of one value."""
    count = values.numel() * world_size()
    if count < 2:
        return torch.full_like(values.sum(), torch.nan)
    if world_size() == 1:
        return values.var()
    centre = mean(values.mean())
    return total((values - centre).square().sum()) / (count - 1)


def largest(value: int, device: torch.device) -> int:
    """Return the largest of the processes' values, on the host."""
    if world_size() == 1:
        return value
    values = torch.tensor(value, device=device)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return int(values)


def from_first(value: Any) -> Any:
    """Return the first process's value; the values of the others are ignored."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gathered(value: Any) -> list[Any]:
    """Return every process's value, in order of rank, with tensors on the CPU; only the first process may use it."""
    if world_size() == 1:
        return [value]
    value = pytree.tree_map_only(Tensor, Tensor.cpu, value)
    boxes = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, boxes, dst=0)
    return boxes or []


def require_same(settings: dict[str, Any]) -> None:
    """Raise a usage error in every process if a setting differs between them."""
    if world_size() == 1:
        return
    everyones: list[Any] = [None] * world_size()
    dist.all_gather_object(everyones, settings)
    for number, theirs in enumerate(everyones):
        for name, value in theirs.items():
            if value != everyones[0][name]:
                raise UsageError(
                    f"{name} is {value} in process {number}, {everyones[0][name]} in process 0: start all processes "
                    "with the same options, and let them see the same run folder"
                )


def what_was_lost(error: BaseException) -> str | None:
    """Return a message if the error means that the processes have lost each other; None for any other error."""
    if isinstance(error, dist.DistError) and not dist.is_initialized():
        return f"the processes did not find each other: {str(error).splitlines()[0]}"
    lost = isinstance(error, RuntimeError) and LOST.search(str(error))
    if world_size() > 1 and (lost or isinstance(error, dist.DistError)):
        return "another process of this run ended before its time"
    return None
