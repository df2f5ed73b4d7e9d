"""The precision in which the compiled ops multiply by weights on a CPU: float32, or bfloat16 where the CPU has it.

In bfloat16 the factors of a product are rounded to eight significant bits, and the sum is in float32. It concerns maps
(:func:`~memsuite.ops.wide_linear`, :func:`~memsuite.ops.gated_mlp`, :func:`~memsuite.ops.gated_out` and
:func:`~memsuite.ops.skip_out`), their gradients, and the gradients of recurrent weights. A recurrence itself, its
state and its gradient through time stay in float32, as do float64 tensors in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from memsuite.errors import UsageError
from memsuite.ops.build import cpu


def check_products(precision: str, device: torch.device) -> None:
    """Raise a usage error if products cannot be computed so on this machine.

    Args:
        precision: what is asked for.
        device: where the training runs.
    """
    if precision == "float32":
        return
    asked = f"ppo.products {precision}"
    if device.type != "cpu":
        raise UsageError(f"{asked} is for a CPU; on a GPU use trainer.precision bf16-mixed")
    if cpu.STATUS.library is None:
        raise UsageError(f"{asked} needs the compiled ops ({cpu.STATUS.reason}); use float32")
    with products_in(precision):
        if not torch.ops.memsuite.bfloat16_products(-1):
            raise UsageError(f"{asked} needs a processor with AVX-512 BF16, which this one lacks; use float32")


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Compute products in this precision in the block, if this machine can; see :func:`check_products`."""
    if precision == "float32" or cpu.STATUS.library is None:
        yield
        return
    before = torch.ops.memsuite.bfloat16_products(-1)
    torch.ops.memsuite.bfloat16_products(1)
    try:
        yield
    finally:
        torch.ops.memsuite.bfloat16_products(before)
