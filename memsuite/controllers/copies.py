"""Copies of a user's modules, also of those that keep a tensor with a gradient, such as their last activation."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from memsuite.blame import in_one_line
from memsuite.errors import UsageError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def copied(module: ModuleT) -> ModuleT:
    """Return a copy of a module that shares no tensor with it.

    ``copy.deepcopy`` refuses a tensor that was computed with a gradient. Where an attribute of a module holds one, also
    within lists and dicts, the copy holds its values without the gradient.

    Args:
        module: is copied; it is not changed.

    Raises:
        UsageError: one line that names the module, if something else in it cannot be copied.
    """
    held = pytree.tree_leaves([dict(vars(part)) for part in module.modules()])
    # deepcopy takes what it finds here by the identity of the original in place of copying that.
    memo = {id(one): one.detach().clone() for one in held if isinstance(one, Tensor) and one.grad_fn is not None}
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise UsageError(
            f"{type(module).__name__} cannot be copied: {in_one_line(error)}; keep what cannot be copied out of its "
            "attributes, or define its method __deepcopy__"
        ) from error


def in_precision(module: ModuleT, dtype: torch.dtype) -> ModuleT:
    """Return a copy of a module in another precision, its parameters and buffers; complex numbers stay complex."""

    def convert(one: Tensor) -> Tensor:
        if one.is_complex():  # nn.Module.to would discard the imaginary part
            return one.to(dtype.to_complex())
        return one.to(dtype) if one.is_floating_point() else one

    return copied(module)._apply(convert)  # type: ignore[no-untyped-call, no-any-return]
