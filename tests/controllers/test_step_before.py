"""A sequence moved by one step and the buffer that a convolution leaves, against loops over steps; their gradients."""

import pytest
import torch

from memsuite.controllers.conv import last_inputs, step_before

SHAPES = [(1, 2, 3), (2, 1, 1), (7, 3, 2)]


def given(shape, seed=0):
    """Draw a sequence and the beginnings of episodes; return the generator too."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draws, dtype=torch.float64)
    first = torch.rand(shape[:2], generator=draws) < 0.4
    return x, first, draws


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_input_before_each_step(shape):
    x, first, draws = given(shape)
    last = torch.randn(shape[1:], generator=draws, dtype=torch.float64)
    whole = torch.cat([last.unsqueeze(0), x])
    expected = [torch.where(begins.unsqueeze(1), 0.0, before) for begins, before in zip(first, whole, strict=False)]
    assert torch.equal(step_before(x, last, first), torch.stack(expected))
    leaves = [x.requires_grad_(), last.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *parts: step_before(*parts, first), leaves)


@pytest.mark.parametrize("lags", [0, 1, 3, 9])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_last_inputs_are_those_of_the_episode(shape, lags):
    x, first, draws = given(shape, lags)
    _, rows, width = shape
    buffer = torch.randn(rows, lags, width, generator=draws, dtype=torch.float64)
    expected = buffer
    for now, begins in zip(x, first, strict=True):
        kept = torch.where(begins.view(-1, 1, 1), 0.0, expected)
        expected = torch.cat([kept, now.unsqueeze(1)], dim=1)[:, 1:] if lags else buffer
    halves = [x[..., : width // 2], x[..., width // 2 :]]
    assert torch.equal(last_inputs(buffer, halves, first), expected)


def test_not_a_number_does_not_cross_a_beginning():
    x, first, _ = given((7, 3, 2))
    x[:2] = torch.nan
    first.zero_()[2] = True
    zeros = torch.zeros(3, 2, dtype=torch.float64)
    assert torch.isfinite(step_before(x, zeros, first)[2:]).all()
    assert torch.isfinite(last_inputs(torch.full((3, 8, 2), torch.nan), [x.float()], first)).all()
