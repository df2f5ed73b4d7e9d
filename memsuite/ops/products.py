"""The precision in which the compiled ops multiply by weights on a CPU: float32, or bfloat16 where the CPU has it.

In bfloat16 the factors of a product are rounded to eight significant bits, subnormal numbers count as zero, and the sum
is in float32. It concerns sequences that pass through :func:`~memsuite.ops.wide_linear`,
:func:`~memsuite.ops.gated_mlp`, :func:`~memsuite.ops.gated_out` and :func:`~memsuite.ops.skip_out`, their gradients,
and the gradients of recurrent weights. A recurrence itself, its state and its gradient through time, attention, narrow
maps, and single steps of fewer than 256 rows, which PyTorch computes, stay in float32, as float64 stays float64.
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
        precision: ``float32`` or ``bfloat16``.
        device: where the training runs.
    """
    if precision == "float32":
        return
    asked = f"ppo.products {precision}"
    if device.type != "cpu":
        raise UsageError(f"{asked} is for a CPU; on a GPU use trainer.precision bf16-mixed")
    if cpu.STATUS.library is None:
        raise UsageError(f"{asked} needs the compiled ops ({cpu.STATUS.reason})")
    with products_in(precision) as held:
        if not held:
            raise UsageError(f"{asked} needs a processor with AVX-512 BF16, which this one lacks")


@contextmanager
def products_in(precision: str) -> Iterator[bool]:
    """Compute products in this precision in the block, if this machine can; yield whether they are in bfloat16.

    The precision belongs to the process: threads that train at the same time must have the same.
    """
    if cpu.STATUS.library is None:
        yield False
        return
    before = torch.ops.memsuite.bfloat16_products(-1)
    now = torch.ops.memsuite.bfloat16_products(int(precision == "bfloat16"))
    try:
        yield bool(now)
    finally:
        torch.ops.memsuite.bfloat16_products(before)
