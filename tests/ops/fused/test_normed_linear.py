"""The normed linear map against its two steps apart, its gradient and its registration."""

import pytest
import torch
from torch import nn

from memsuite.ops import normed_linear


def arguments(dtype=torch.float64, rows=(3, 2)):
    return torch.randn(*rows, 5, dtype=dtype).requires_grad_(), torch.randn(4, 5, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_a_norm_and_a_map(dtype):
    inputs = arguments(dtype)
    expected = nn.functional.linear(nn.functional.rms_norm(inputs[0], (5,), eps=1e-3), inputs[1])
    got = normed_linear(*inputs, 1e-3)
    tolerance = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    torch.testing.assert_close(got, expected, **tolerance)
    cotangent = torch.randn_like(got)
    grads = [torch.autograd.grad((out * cotangent).sum(), inputs) for out in (got, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("rows", [(3, 2), (7,), ()], ids=str)
def test_gradient_equals_finite_differences(rows):
    assert torch.autograd.gradcheck(lambda x, w: normed_linear(x, w, 1e-3), arguments(rows=rows))


def test_a_row_of_zeros_has_a_finite_gradient():
    x = torch.zeros(2, 5).requires_grad_()
    normed_linear(x, torch.randn(4, 5), 1e-8).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_registration_is_sound():
    torch.library.opcheck(torch.ops.memsuite.normed_linear, (*arguments(), 1e-3))


def test_second_derivative_is_refused():
    x, w = arguments()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(normed_linear(x, w, 1e-3).square().sum(), x, create_graph=True)


def test_autocast_does_not_reach_into_it():
    x, w = arguments(torch.float32)
    expected = normed_linear(x, w, 1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(normed_linear(x, w, 1e-3), expected)
