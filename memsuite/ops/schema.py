"""Registration of an op: its schema, its PyTorch reference, its fake and its autograd formula."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


class Ops(torch.library.Library):
    """The library of the ops, whose autograd formulas are all reverse-mode: forward mode raises.

    PyTorch would return the outputs without tangents, as if their derivatives were zero.
    """

    def impl(self, op_name: str, fn: Callable[..., Any], dispatch_key: str = "", **how: Any) -> None:
        """Register a kernel; that of autograd with the refusal."""
        if dispatch_key == "Autograd":
            fn = _reverse_mode(op_name, fn)
        super().impl(op_name, fn, dispatch_key, **how)  # type: ignore[no-untyped-call]


def _reverse_mode(name: str, formula: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(formula)
    def run(keyset: Any, *inputs: Any) -> Any:
        if forward_ad._current_level >= 0:  # inside torch.func.jvp, jacfwd, hessian or forward_ad.dual_level
            duals = (forward_ad.unpack_dual(x) for x in inputs if isinstance(x, Tensor))  # type: ignore[no-untyped-call]
            if any(dual.tangent is not None for dual in duals):
                raise RuntimeError(f"memsuite::{name} has no forward-mode derivative; call backward() instead")
        return formula(keyset, *inputs)

    return run


LIBRARY = Ops("memsuite", "FRAGMENT")  # type: ignore[no-untyped-call]
REFERENCES: dict[str, Callable[..., Any]] = {}  # by the name of the op, "gru_scan" as well as "gru_scan_backward"
FAKES: dict[str, Callable[..., Any]] = {}  # what is promised of their outputs


def define(schema: str, reference: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Register an op by its schema, with the PyTorch reference that runs wherever no compiled kernel is loaded."""
    name = schema.split("(")[0]
    REFERENCES[name], FAKES[name] = reference, fake
    LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    # Below autograd and below any backend key, so a kernel registered for CPU or CUDA takes precedence.
    LIBRARY.impl(name, as_promised(reference, fake), "CompositeExplicitAutograd")
    torch.library.register_fake(f"memsuite::{name}", _on_one_device(name, fake), lib=LIBRARY)


def _on_one_device(name: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse a tensor without data (``meta``) among others: PyTorch would call the fake and return memory as it is."""

    @functools.wraps(fake)
    def run(*inputs: Any) -> Any:
        kinds = {x.device.type for x in inputs if isinstance(x, Tensor)}
        if "meta" in kinds and len(kinds) > 1:
            raise RuntimeError(f"memsuite::{name}: some tensors are on the device meta, which holds no data")
        return fake(*inputs)

    return run


def worth_fusing(x: Tensor, step: int = 2) -> bool:
    """Return whether a fused op should replace several of PyTorch's: for sequences, on a CPU, without autocast.

    PyTorch finishes a single step before one of memsuite's ops is even dispatched; on a GPU and in half precision
    PyTorch's own kernels are better.

    Args:
        x: the input of the op.
        step: number of dimensions of a single step; a sequence has one more.
    """
    return x.dim() > step and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def of_one_kind(*parts: Tensor | None) -> list[Any]:
    """Return tensors in the widest of their kinds of number, as PyTorch's own operations would take them; None stays.

    Autocast passes products in half precision, and a recurrence would add up their rounding errors at every step. Its
    state and its weights have more digits, and they decide.
    """
    kinds = [part.dtype for part in parts if part is not None]
    if all(kind == kinds[0] for kind in kinds):
        return list(parts)
    wide = functools.reduce(torch.promote_types, kinds)
    return [part if part is None else part.to(wide) for part in parts]


def as_promised(body: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Run the body of an op outside autocast, and return what its fake promises, as compiled ops do.

    Autocast would run its matrix products in half precision. Where the first argument is in half precision, everything
    is computed in single precision, and each output is rounded to the promised kind of number.
    """

    @functools.wraps(body)
    def run(*inputs: Any) -> Any:
        first = next(x for x in inputs if isinstance(x, Tensor))
        half = first.dtype in (torch.bfloat16, torch.float16)
        with outside_autocast(first.device.type):
            made = body(*(_widened(x) for x in inputs) if half else inputs)
        return _laid(made, fake(*inputs) if half else made)

    return run


def outside_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context that switches autocast off, if it is on."""
    if not torch.is_autocast_enabled(device_type):
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)


def _widened(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.bfloat16, torch.float16) else x


def _laid(made: Any, promised: Any) -> Any:
    """Lay out outputs in the order of their dimensions, in the kinds of number that were promised."""
    if isinstance(made, Tensor):
        return made.to(promised.dtype).contiguous()
    return tuple(one.to(like.dtype).contiguous() for one, like in zip(made, promised, strict=True))


def differentiate(
    name: str,
    backward: Callable[..., Any],
    setup_context: Callable[..., Any],
    read: Sequence[int] = (0,),
    constant: Sequence[int] = (),
) -> None:
    """Register the autograd formula of an op; a second derivative raises instead of being silently wrong.

    Args:
        name: the op's name.
        backward: the formula; gets the gradients of all outputs.
        setup_context: saves what the formula needs.
        read: numbers of the outputs whose gradients the formula reads; where such an output is unused, its gradient is
            zeros. The gradients of all other outputs are None where they are unused. These are what the forward pass
            keeps for the backward pass, often the largest tensors of all, and zeros of their size take time to write.
        constant: numbers of the inputs that have no gradient by design. For any other the formula must give one that is
            asked for; leaving it out raises, because silence would be a gradient of zero.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        outputs = (output,) if isinstance(output, Tensor) else output
        ctx.like = {at: (outputs[at].shape, outputs[at].dtype, outputs[at].device) for at in read}
        setup_context(ctx, inputs, output)

    def once(ctx: Any, *grads: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(f"memsuite::{name} has no second derivative; call backward without create_graph=True")
        filled = list(grads)
        for at, (shape, dtype, device) in ctx.like.items():
            if filled[at] is None:
                filled[at] = torch.zeros(shape, dtype=dtype, device=device)
        found = backward(ctx, *filled)
        flows = any(grad is not None for grad in grads)
        for at, (asked, given) in enumerate(zip(ctx.needs_input_grad, found, strict=True)):
            if flows and asked and given is None and at not in constant:
                raise RuntimeError(f"memsuite::{name} has no gradient for its input {at}, which requires one")
        return found

    torch.library.register_autograd(f"memsuite::{name}", once, setup_context=setup, lib=LIBRARY)
