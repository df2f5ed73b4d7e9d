"""What the ops share: their namespace, their registration, and the small laws of reset-aware scans."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 17  # numbers per block of a backward pass, so that its working set stays in cache at any length
LIBRARY = torch.library.Library("memsuite", "FRAGMENT")  # type: ignore[no-untyped-call]


def define(schema: str, reference: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Register an op by its schema, with the PyTorch reference that runs wherever no compiled kernel is loaded."""
    name = schema.split("(")[0]
    LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    # Below autograd and below any backend key, so a kernel registered for CPU or CUDA takes precedence.
    LIBRARY.impl(name, in_full_precision(reference), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"memsuite::{name}", fake, lib=LIBRARY)


def fused(x: Tensor, step: int = 2) -> bool:
    """Tell whether an op of ours should stand for a few of PyTorch's: for sequences, on a CPU, without autocast.

    A single step is done before an op of ours has begun; on a GPU and in half precision PyTorch's kernels are better.

    Args:
        x: what the op reads.
        step: how many dimensions it has in a single step; a sequence has one more.
    """
    return x.dim() > step and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def in_full_precision(reference: Callable[..., Any]) -> Callable[..., Any]:
    """Run an op's body outside autocast, which would turn its matrix products to half precision."""

    @functools.wraps(reference)
    def run(*inputs: Any) -> Any:
        kind = next(x.device.type for x in inputs if isinstance(x, Tensor))
        if not torch.is_autocast_enabled(kind):
            return reference(*inputs)
        with torch.autocast(kind, enabled=False):
            return reference(*inputs)

    return run


def differentiate(name: str, backward: Callable[..., Any], setup_context: Callable[..., Any]) -> None:
    """Register an op's autograd formula; a second derivative raises instead of being silently wrong."""

    def once(ctx: Any, *grads: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(f"memsuite::{name} has no second derivative; call backward without create_graph=True")
        return backward(ctx, *grads)

    torch.library.register_autograd(f"memsuite::{name}", once, setup_context=setup_context, lib=LIBRARY)


def rows_with_resets(reset_TB: Tensor) -> list[bool]:
    """Tell for each step whether any row is reset there, so that the steps without one skip the masking.

    On an accelerator the answer is yes for every step: asking would stop the host once per call.
    """
    if reset_TB.device.type != "cpu":
        return [True] * reset_TB.shape[0]
    return reset_TB.any(dim=1).tolist()


def states_before(first_BD: Tensor, states_TBD: Tensor, at: slice, erase_TB1: Tensor) -> Tensor:
    """Return the state each step of the block ``at`` began from, resets applied, as a new tensor.

    Args:
        first_BD: the state before the whole sequence.
        states_TBD: the states after each step of it.
        at: the block, with both ends given.
        erase_TB1: bool, the rows that a step resets.
    """
    before = first_BD.unsqueeze(0) if at.start == 0 else states_TBD[at.start - 1 : at.start]
    return torch.cat([before, states_TBD[at.start : at.stop - 1]]).masked_fill_(erase_TB1[at], 0)
