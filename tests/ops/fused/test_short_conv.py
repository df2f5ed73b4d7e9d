"""The short convolution against its definition, channel by channel; the compiled op against the reference."""

import pytest
import torch
from differences import worst
from torch.nn.functional import silu

from memsuite.ops import REFERENCES, short_conv
from memsuite.ops.build import cpu

# Steps, environments, channels, width: fewer steps than the filter is long, and widths that do not fill a vector.
SHAPES = [(1, 1, 1, 1), (1, 3, 5, 4), (2, 1, 7, 5), (33, 3, 17, 4), (19, 18, 64, 2), (40, 2, 200, 4)]
compiled = pytest.mark.skipif(cpu.STATUS.library is None, reason=f"no compiled ops: {cpu.STATUS.reason}")
silu_or_not = pytest.mark.parametrize("apply_silu", [False, True], ids=["sum", "silu"])
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def arguments(shape, reset=0.2):
    """Draw float64 arguments, exact in float32 too."""
    steps, batch, size, width = shape

    def draw(*of):
        return torch.randn(*of).double()

    inputs = [draw(steps, batch, size), draw(size, width), draw(size), draw(batch, width - 1, size)]
    return [*inputs, torch.rand(steps, batch) < reset]


def cast(given, kind):
    """Return floating-point tensors with this dtype, and everything else as it is."""
    return [x.to(kind) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in given]


def transcription(x, weight, bias, buffer, reset, apply_silu):
    """Convolve by the formula, one step at a time."""
    window, ys = [*buffer.unbind(1)], []
    for x_t, reset_t in zip(x, reset, strict=True):
        window = [*(old.masked_fill(reset_t.unsqueeze(1), 0) for old in window), x_t]
        ys.append(bias + sum(old * tap for old, tap in zip(window, weight.unbind(1), strict=True)))
        window = window[1:]
    return silu(torch.stack(ys)) if apply_silu else torch.stack(ys)


def with_gradients(run, inputs, apply_silu, grad):
    leaves = [x.detach().clone().requires_grad_(x.dtype != torch.bool) for x in inputs]
    y = run(*leaves, apply_silu)
    return [y, *torch.autograd.grad(y, leaves[:4], grad, materialize_grads=True)]


@shapes
@silu_or_not
@pytest.mark.parametrize("resets", [0.0, 0.2, 1.0])
def test_it_is_its_formula(shape, resets, apply_silu):
    inputs = arguments(shape, resets)
    grad = torch.randn_like(inputs[0])
    both = (with_gradients(run, inputs, apply_silu, grad) for run in (short_conv, transcription))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@compiled
@shapes
@silu_or_not
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
def test_equals_the_reference(shape, kind, apply_silu, level):
    inputs = [*arguments(shape), apply_silu]
    grad = torch.randn_like(inputs[0].float()).double()
    after = [grad, *inputs]
    expected = [REFERENCES["short_conv"](*inputs), *REFERENCES["short_conv_backward"](*after)]
    narrow = [cast(given, kind) for given in (inputs, after)]
    found = [torch.ops.memsuite.short_conv(*narrow[0]), *torch.ops.memsuite.short_conv_backward(*narrow[1])]
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert not other.numel() or worst(one.double(), other) < (1e-12 if kind == torch.float64 else 5e-6)


@compiled
@silu_or_not
def test_threads_change_no_bit(apply_silu):
    inputs, found = [*cast(arguments((70, 19, 33, 4)), torch.float32), apply_silu], []
    after = [torch.randn_like(inputs[0]), *inputs]
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append([torch.ops.memsuite.short_conv(*inputs), *torch.ops.memsuite.short_conv_backward(*after)])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@silu_or_not
@pytest.mark.parametrize("run", [short_conv, REFERENCES["short_conv"]], ids=["op", "reference"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_nothing_crosses_a_reset(run, poison, apply_silu):
    x, *rest, reset = arguments((9, 2, 5, 4), reset=0.0)
    reset[4, 0] = True
    clean = run(x, *rest, reset, apply_silu)
    dirty = x.clone()
    dirty[2:4, 0] = poison
    found = run(dirty, *rest, reset, apply_silu)
    assert not found[2:4, 0].isfinite().any()
    assert torch.equal(found[4:], clean[4:])
    assert torch.equal(found[:, 1:], clean[:, 1:])


@silu_or_not
@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_registration_and_gradient(shape, apply_silu):
    inputs = [x.requires_grad_(x.dtype != torch.bool) for x in arguments((min(shape[0], 6), *shape[1:]))]
    inputs.append(apply_silu)
    torch.library.opcheck(torch.ops.memsuite.short_conv, inputs)
    assert torch.autograd.gradcheck(short_conv, inputs)


def test_without_a_bias_and_of_strided_inputs():
    x, weight, _, buffer, reset = arguments((6, 3, 5, 4))
    expected = REFERENCES["short_conv"](x, weight, torch.zeros(5).double(), buffer, reset, False)
    strided = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in (x, weight)]
    torch.testing.assert_close(short_conv(*strided, None, buffer, reset), expected, rtol=0, atol=1e-12)


def test_shapes_that_do_not_fit_raise():
    x, *rest, reset = arguments((4, 3, 5, 4))
    with pytest.raises(RuntimeError):
        torch.ops.memsuite.short_conv(x, *rest, reset[:2], False)
