"""Every op: its gradient by finite differences, its registration, its float32 against its float64."""

import pytest
import torch
from torch import Tensor

from memsuite.ops import gru_scan, pscan

STEPS, BATCH, WIDTH = 7, 3, 4


def resets(kind: str) -> Tensor:
    if kind == "none":
        return torch.zeros(STEPS, BATCH, dtype=torch.bool)
    if kind == "all":
        return torch.ones(STEPS, BATCH, dtype=torch.bool)
    return torch.rand(STEPS, BATCH) < 0.3


def arguments(op: str, reset: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype).requires_grad_()

    if op == "pscan":
        return draw(STEPS, BATCH, WIDTH), reset, draw(BATCH, WIDTH)
    return draw(STEPS, BATCH, 3 * WIDTH), reset, draw(BATCH, WIDTH), draw(3 * WIDTH, WIDTH), draw(3 * WIDTH)


OPS = {"pscan": pscan, "gru_scan": gru_scan}


@pytest.mark.parametrize("kind", ["none", "some", "all"])
@pytest.mark.parametrize("op", OPS)
def test_gradient_equals_finite_differences(op, kind):
    assert torch.autograd.gradcheck(OPS[op], arguments(op, resets(kind)))


@pytest.mark.parametrize("op", OPS)
def test_gradient_of_a_single_step(op):
    inputs = arguments(op, torch.tensor([[True, False, False]]))
    inputs = (inputs[0][:1].detach().requires_grad_(), *inputs[1:])
    assert torch.autograd.gradcheck(OPS[op], inputs)


@pytest.mark.parametrize("op", OPS)
def test_registration_is_sound(op):
    torch.library.opcheck(getattr(torch.ops.memsuite, op), arguments(op, resets("some")))


@pytest.mark.parametrize("op", OPS)
def test_second_derivative_is_refused(op):
    inputs = arguments(op, resets("some"))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(OPS[op](*inputs).sum(), inputs[0], create_graph=True)


@pytest.mark.parametrize("op", OPS)
def test_float32_is_close_to_float64(op):
    inputs = arguments(op, resets("some"))
    single = [x.detach().float().requires_grad_() if x.is_floating_point() else x for x in inputs]
    out, out_single = OPS[op](*inputs), OPS[op](*single)
    torch.testing.assert_close(out_single, out.float(), rtol=0, atol=2e-6)
    out.sum().backward()
    out_single.sum().backward()
    for wide, narrow in zip(inputs, single, strict=True):
        if wide.requires_grad:
            torch.testing.assert_close(narrow.grad, wide.grad.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", OPS)
def test_non_contiguous_inputs_give_the_same(op):
    inputs = [x.detach() for x in arguments(op, resets("some"))]
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() > 1 else x for x in inputs]
    grads = []
    for given in (inputs, strided):
        leaves = [x.clone(memory_format=torch.preserve_format) for x in given]
        leaves = [x.requires_grad_() if x.is_floating_point() else x for x in leaves]
        out = OPS[op](*leaves)
        out.square().sum().backward()
        grads.append([out, *(x.grad for x in leaves if x.grad is not None)])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
