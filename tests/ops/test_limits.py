"""What ops are given at their limits: numbers of several kinds, complex ones, none at all, no data, and odd layouts."""

import pytest
import torch
from ops.calls import Calls
from torch._subclasses.fake_tensor import FakeTensorMode

from memsuite import ops
from memsuite.ops.build.cache import compiler
from memsuite.ops.build.commands import BuildError

STEPS, ROWS, WIDTH = 5, 3, 8
RESETS = torch.zeros(STEPS, ROWS, dtype=torch.bool)


def numbers(name):
    """Return an op, rows in bfloat16 and weights of more digits that it is applied to."""
    torch.manual_seed(0)
    x = torch.randn(STEPS, ROWS, WIDTH).bfloat16()
    if name == "window_attention":
        q, k, v = torch.randn(3, STEPS, ROWS, 2, 4).bfloat16()
        age = torch.arange(STEPS).unsqueeze(1).expand(STEPS, ROWS).contiguous()
        return lambda bias: ops.window_attention(q, k, v, age, bias), [torch.randn(STEPS, ROWS, 2, dtype=torch.float64)]
    weights = {
        "gated_mlp": [torch.randn(2 * WIDTH, WIDTH), torch.randn(WIDTH, WIDTH)],
        "wide_linear": [torch.randn(6, WIDTH), torch.randn(6)],
        "normed_linear": [torch.randn(WIDTH, WIDTH)],
        "rms_norm": [torch.randn(WIDTH)],
    }[name]
    more = [1e-6] if name in ("gated_mlp", "rms_norm", "normed_linear") else []
    return lambda *given: getattr(ops, name)(x, *given, *more), weights


@pytest.mark.parametrize("name", ["gated_mlp", "wide_linear", "normed_linear", "rms_norm", "window_attention"])
def test_weights_of_more_digits_have_gradients_of_as_many(name):
    """They were rounded to the kind of the rows, and a compiled model read them as the kind that the fake promises."""
    run, weights = numbers(name)
    weights = [weight.requires_grad_() for weight in weights]
    with Calls() as calls:
        found = torch.autograd.grad(run(*weights).float().square().sum(), weights)
    assert [grad.dtype for grad in found] == [weight.dtype for weight in weights]
    assert not any(torch.equal(grad, grad.bfloat16().to(grad.dtype)) for grad in found)
    backward, given, made = calls.found[-1]
    assert str(backward) == f"memsuite.{name}_backward.default"
    mode = FakeTensorMode()
    fakes = [mode.from_tensor(one.detach()) if isinstance(one, torch.Tensor) else one for one in given]
    with mode:
        promised = backward(*fakes)
    assert [one.dtype for one in made if one.numel()] == [one.dtype for one in promised if one.numel()]


@pytest.mark.usefixtures("compiled")  # the references compute with complex numbers
@pytest.mark.parametrize("name", ["pscan", "elman_scan", "gru_scan", "wide_linear", "rms_norm"])
def test_complex_numbers_are_refused_where_the_loops_have_none(name):
    x, state = torch.randn(STEPS, ROWS, WIDTH, dtype=torch.cfloat), torch.randn(ROWS, WIDTH, dtype=torch.cfloat)
    square, bias = torch.randn(WIDTH, WIDTH, dtype=torch.cfloat), torch.randn(WIDTH, dtype=torch.cfloat)
    given = {
        "pscan": (x, RESETS, state),
        "elman_scan": (x, RESETS, state, square, bias),
        "gru_scan": (x.repeat(1, 1, 3), RESETS, state, square.repeat(3, 1), bias.repeat(3)),
        "wide_linear": (x, square),
        "rms_norm": (x, bias, 1e-6),
    }[name]
    with pytest.raises(RuntimeError, match="takes no complex numbers"):
        getattr(ops, name)(*given)


@pytest.mark.parametrize("name", ["rms_norm", "gru_scan", "pscan"])
def test_a_weight_without_data_is_refused(name):
    """PyTorch sends such a call to the fake, whose memory is as it was found."""
    x, state = torch.randn(STEPS, ROWS, WIDTH), torch.randn(ROWS, WIDTH)
    given = {
        "rms_norm": (x, torch.randn(WIDTH, device="meta"), 1e-6),
        "gru_scan": (x.repeat(1, 1, 3), RESETS, state, torch.randn(3 * WIDTH, WIDTH, device="meta"), torch.randn(24)),
        "pscan": (x, RESETS, state.to("meta")),
    }[name]
    with pytest.raises(RuntimeError, match="on the device meta, which holds no data"):
        getattr(ops, name)(*given)


def test_a_step_does_not_ask_for_the_default_device():
    given = (torch.ones(2, 3), torch.ones(2, 3), -torch.ones(3, 4), torch.ones(2, 4), torch.ones(2, 4))
    expected = ops.selective_step(*given, torch.zeros(2, 3, 4))[0]
    state = torch.zeros(2, 3, 4)
    with torch.device("meta"):
        assert torch.equal(ops.selective_step(*given, state)[0], expected)


def test_no_steps_and_no_units_leave_the_process_alive():
    """Both ended it: a block before the first was read, and a number was divided by that of no tiles."""
    h0 = torch.randn(2, 3, 4, requires_grad=True)
    rows, weights = torch.zeros(0, 2, 3), torch.zeros(0, 2, 4)
    _, last = ops.selective_scan(rows, rows, -torch.ones(3, 4), weights, weights, RESETS[:0, :2], h0)
    assert torch.equal(torch.autograd.grad(last.sum(), h0)[0], torch.ones(2, 3, 4))
    state = torch.zeros(2, 0, requires_grad=True)
    y = ops.gru_scan(torch.zeros(3, 2, 0), RESETS[:3, :2], state, torch.zeros(0, 0), torch.zeros(0))
    assert torch.autograd.grad(y.sum(), state)[0].shape == (2, 0)


def test_a_compiler_that_is_no_command_is_a_failed_build(monkeypatch):
    monkeypatch.setenv("CXX", 'g++ "')
    with pytest.raises(BuildError, match="CXX is no command: no closing quotation"):
        compiler()
