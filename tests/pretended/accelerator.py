"""A pretended accelerator: its tensors have a device, a shape and a dtype, but no numbers.

What code does with them is checked as on a GPU, without one. An operation on tensors of two devices raises, as it does
there. So does a copy between host and device that makes the host wait (:class:`Waits`). Other waits are counted:
numbers that the host reads, shapes that depend on values, and constants that are copied from the host. A process that
has pretended a device keeps it, so these tests have a process of their own (tests/test_pretended.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from memsuite.tasks.parts import constant

NAME = "pretended"
aten = torch.ops.aten


class Waits(RuntimeError):
    """The host would have to wait for the device."""


class Generator(torch.Generator):
    """A generator of any device, also of the pretended one."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    device = property(lambda self: self.place)


class Watch(TorchDispatchMode):
    """Refuse copies between host and device, and count the other waits.

    Attributes:
        numbers: number of values that the host read; it got a 1 for each.
        shapes: number of shapes that depended on values; ``nonzero`` found half of the elements.
        constants: number of tensors that were made of values of the host.
    """

    numbers = shapes = constants = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten.nonzero.default and args[0].device.type == NAME:
            self.shapes += 1
            return args[0].new_zeros((args[0].numel() + 1) // 2, args[0].dim(), dtype=torch.int64)
        if func is aten._local_scalar_dense.default and args[0].device.type == NAME:
            self.numbers += 1
            return 1.0 if args[0].dtype.is_floating_point else 1
        if func in (aten._to_copy.default, aten.copy_.default):
            target = (
                args[0].device if func is aten.copy_.default else torch.device(kwargs.get("device") or args[0].device)
            )
            source = args[1].device if func is aten.copy_.default else args[0].device
            queued = kwargs.get("non_blocking") or (func is aten.copy_.default and len(args) > 2 and args[2])
            if target.type != source.type and not queued:
                raise Waits(f"a copy from {source} to {target}")
        return func(*args, **kwargs)


def device() -> torch.device:
    """Return the pretended device, which is registered once a process."""
    if not hasattr(torch, NAME):
        backend_registration._setup_privateuseone_for_python_backend(NAME)
    return torch.device(NAME, 0)


def cell_of_parts(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor) -> Tensor:
    """Compute ``torch.gru_cell``, which only devices that PyTorch knows have."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (
        nn.functional.linear(*given).chunk(3, -1) for given in ((x, w_x, b_x), (h, w_h, b_h))
    )
    return torch.lerp((x_n + (x_r + h_r).sigmoid() * h_n).tanh(), h, (x_z + h_z).sigmoid())


@contextlib.contextmanager
def pretending(monkeypatch: pytest.MonkeyPatch, *modules: nn.Module) -> Iterator[Watch]:
    """Run what is inside with tensors without numbers, with the modules' on the pretended device."""
    place = device()
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "gru_cell", cell_of_parts)
    constant.cache_clear()
    try:
        with FakeTensorMode() as mode:

            def moved(x: Tensor) -> Tensor:
                return FakeTensor(mode, torch.empty(x.shape, dtype=x.dtype, device="meta"), place)

            for module in modules:
                for part in module.modules():
                    for name, x in part._parameters.items():
                        part._parameters[name] = x if x is None else nn.Parameter(moved(x), x.requires_grad)
                    for name, x in part._buffers.items():
                        part._buffers[name] = x if x is None else moved(x)
            real = torch.tensor
            with Watch() as watch:

                def made(*given: Any, **options: Any) -> Tensor:
                    where = options.pop("device", None) or "cpu"
                    there = real(*given, **options)
                    if torch.device(where).type != NAME:
                        return there  # type: ignore[no-any-return]
                    watch.constants += 1
                    return torch.empty(there.shape, dtype=there.dtype, device=place)

                monkeypatch.setattr(torch, "tensor", made)
                yield watch
    finally:
        constant.cache_clear()
