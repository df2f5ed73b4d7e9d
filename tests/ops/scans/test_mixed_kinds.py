"""Inputs of several kinds of number: the widest decides, as in PyTorch's own operations, compiled or not."""

import inspect

import pytest
import torch

from memsuite import ops

STEPS, ROWS, WIDTH, HEADS, CHANNELS = 5, 3, 4, 2, 4


def like(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def numbers(name):
    """Return an op's arguments in float64; the last of them is the state, or the place of the state is named."""
    torch.manual_seed(0)
    resets = torch.rand(STEPS, ROWS) < 0.3
    x, state = like(STEPS, ROWS, WIDTH), like(ROWS, WIDTH)
    heads, matrix = (STEPS, ROWS, HEADS, CHANNELS), like(ROWS, HEADS, CHANNELS, CHANNELS)
    decay = -like(STEPS, ROWS, HEADS).abs()
    weights = {gates: (like(gates * WIDTH, WIDTH), like(gates * WIDTH)) for gates in (1, 3, 4)}
    cells = -like(WIDTH, 3).abs()
    wide = {gates: like(STEPS, ROWS, gates * WIDTH) for gates in (3, 4)}
    return {
        "pscan": (x, resets, state),
        "diagonal_scan": (like(WIDTH).sigmoid(), x, resets, state),
        "elman_scan": (x, resets, state, *weights[1]),
        "gru_scan": (wide[3], resets, state, *weights[3]),
        "lstm_scan": (wide[4], resets, state, state, *weights[4]),
        "slstm_scan": (wide[4], resets, state, state, state.abs() + 1, state, *weights[4]),
        "selective_scan": (x, x.abs(), cells, like(STEPS, ROWS, 3), like(STEPS, ROWS, 3), resets, like(ROWS, WIDTH, 3)),
        "matrix_scan": (like(*heads), like(*heads), like(*heads), decay, resets, matrix),
        "matrix_step": (*(like(*heads[1:]) for _ in range(3)), decay[0], matrix),
        "short_conv": (x, like(WIDTH, 3), like(WIDTH), like(ROWS, 2, WIDTH), resets),
    }[name]


def tensors(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


OPS = ("pscan", "diagonal_scan", "elman_scan", "gru_scan", "lstm_scan", "slstm_scan", "selective_scan", "matrix_scan")


@pytest.mark.parametrize("name", [*OPS, "matrix_step", "short_conv"])
def test_one_input_of_fewer_digits_is_taken_as_the_others_are(name):
    op, given = getattr(ops, name), numbers(name)
    for at, (argument, part) in enumerate(zip(inspect.signature(op).parameters, given, strict=False)):
        if not part.is_floating_point():
            continue
        rounded = part.float()
        mixed = op(*given[:at], rounded, *given[at + 1 :])
        whole = op(*given[:at], rounded.double(), *given[at + 1 :])
        for one, other in zip(tensors(mixed), tensors(whole), strict=True):
            assert one.dtype == torch.float64, argument
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", [*OPS, "matrix_step", "short_conv"])
def test_an_input_in_half_precision_has_a_gradient_in_half_precision(name):
    """As autocast passes what a product gives."""
    op, given = getattr(ops, name), [part.float() if part.is_floating_point() else part for part in numbers(name)]
    half = given[0].bfloat16().requires_grad_()
    outputs = tensors(op(half, *given[1:]))
    assert all(one.dtype == torch.float32 for one in outputs)
    sum(one.sum() for one in outputs).backward()
    assert half.grad.dtype == torch.bfloat16
    assert half.grad.isfinite().all()
