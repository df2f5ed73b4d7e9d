"""The matrix-state scan against its own definition, one step at a time; its gradient, registration and memory.

It runs as the op, compiled where possible, and as the chunked reference with chunks of several lengths.
"""

import pytest
import torch

from memsuite.ops import matrix_scan
from memsuite.ops.build import cpu
from memsuite.ops.scans import matrix_scan as module
from memsuite.ops.scans.matrix_step import _forward as plain_step

STEPS, BATCH, HEADS, KEY, VALUE = 7, 3, 2, 3, 2
rules = pytest.mark.parametrize("delta", [False, True], ids=["sum", "delta"])
sharing = pytest.mark.parametrize("key_heads", [HEADS, 1], ids=["keys_apart", "keys_shared"])


class Reference(torch.autograd.Function):
    """The op's PyTorch reference and its backward, even where a compiled op exists."""

    @staticmethod
    def forward(ctx, *inputs):
        y, states, last = module._forward(*inputs)
        ctx.save_for_backward(*inputs[:5], states, inputs[6])
        return y, last

    @staticmethod
    def backward(ctx, grad_y, grad_last):
        dq, dk, dv, dg, ds, dbeta = module._backward(grad_y, grad_last, *ctx.saved_tensors)
        return dq, dk, dv, dg, None, ds, None if ctx.saved_tensors[-1] is None else dbeta


@pytest.fixture(params=["op", 1, 3, 32], ids=lambda kind: kind if kind == "op" else f"chunk{kind}")
def scan(request, monkeypatch):
    """Return the op, or its reference with chunks of this number of steps."""
    if request.param == "op":
        return matrix_scan
    monkeypatch.setattr(module, "CHUNK", request.param)
    return Reference.apply


def arguments(delta=False, key_heads=HEADS, steps=STEPS, dtype=torch.float64, resets=0.3):
    def draw(*shape):
        return torch.randn(*shape, dtype=dtype)

    q, k, v = draw(steps, BATCH, key_heads, KEY), draw(steps, BATCH, key_heads, KEY), draw(steps, BATCH, HEADS, VALUE)
    log_decay, s0 = -torch.rand(steps, BATCH, HEADS, dtype=dtype), draw(BATCH, HEADS, KEY, VALUE)
    beta = torch.rand(steps, BATCH, HEADS, dtype=dtype) if delta else None
    k = torch.nn.functional.normalize(k, dim=-1)
    inputs = [q, k, v, log_decay, torch.rand(steps, BATCH) < resets, s0, beta]
    return [x.requires_grad_() if x is not None and x.is_floating_point() else x for x in inputs]


def loop(q, k, v, log_decay, reset, s, beta):
    out = []
    for t in range(len(v)):
        s = s.masked_fill(reset[t].view(-1, 1, 1, 1), 0)
        y, s = plain_step(q[t], k[t], v[t], log_decay[t], s, None if beta is None else beta[t])
        out.append(y)
    return torch.stack(out), s


def with_gradients(run, inputs):
    outputs = run(*inputs)
    torch.manual_seed(1)
    loss = sum((out * torch.randn_like(out.double()).to(out.dtype)).sum() for out in outputs)
    return [*outputs, *torch.autograd.grad(loss, [x for x in inputs if x is not None and x.requires_grad])]


@rules
@sharing
@pytest.mark.parametrize("resets", [0, 0.1, 1])
def test_it_is_the_recurrence(scan, delta, key_heads, resets):
    inputs = arguments(delta, key_heads, steps=70, resets=resets)
    for one, other in zip(with_gradients(scan, inputs), with_gradients(loop, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@rules
@sharing
def test_gradient_equals_finite_differences(scan, delta, key_heads):
    assert torch.autograd.gradcheck(scan, arguments(delta, key_heads))


@rules
@pytest.mark.parametrize("used", [0, 1], ids=["y", "state"])
def test_gradient_of_one_output_alone(delta, used):
    assert torch.autograd.gradcheck(lambda *inputs: matrix_scan(*inputs)[used], arguments(delta))


@rules
@sharing
@pytest.mark.parametrize("chunk", [1, 3, 32])
def test_registration_is_sound(chunk, delta, key_heads, monkeypatch):
    if cpu.STATUS.library is not None and chunk != 32:
        pytest.skip("the compiled op has chunks of 32 steps")
    monkeypatch.setattr(module, "CHUNK", chunk)
    torch.library.opcheck(torch.ops.memsuite.matrix_scan, arguments(delta, key_heads, steps=33))


def test_second_derivative_is_refused():
    inputs = arguments()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(matrix_scan(*inputs)[0].square().sum(), inputs[0], create_graph=True)


@rules
def test_autocast_does_not_reach_into_it(delta):
    inputs = arguments(delta, steps=70, dtype=torch.float32)
    expected = with_gradients(matrix_scan, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(*pair) for pair in zip(with_gradients(matrix_scan, inputs), expected, strict=True))


@rules
def test_float32_is_close_to_float64(delta):
    inputs = arguments(delta, steps=70, resets=0.1)
    single = [x.detach().float().requires_grad_() if x is not None and x.requires_grad else x for x in inputs]
    for one, other in zip(with_gradients(matrix_scan, single), with_gradients(matrix_scan, inputs), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


@rules
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_reset_erases_whatever_state_came_before(scan, delta, poison):
    q, k, v, log_decay, reset, s0, beta = arguments(delta, resets=0)
    reset[4, 0] = True
    clean, last = scan(q, k, v, log_decay, reset, s0, beta)
    bad = s0.detach().clone()
    bad[0] = poison
    dirty, dirty_last = scan(q, k, v, log_decay, reset, bad, beta)
    assert not torch.isfinite(dirty[:4, 0]).any()
    for one, other in ((dirty[4:], clean[4:]), (dirty[:, 1:], clean[:, 1:]), (dirty_last, last)):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


@rules
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_an_episode_gone_wrong_leaves_nothing_to_the_next(scan, delta, poison):
    inputs = arguments(delta, resets=0)
    inputs[4][4, 0] = True
    clean, last = scan(*inputs)
    inputs[2] = inputs[2].detach().clone()
    inputs[2][2, 0] = poison
    dirty, dirty_last = scan(*inputs)
    assert not torch.isfinite(dirty[2:4, 0]).all()
    torch.testing.assert_close(dirty[4:], clean[4:], rtol=0, atol=1e-14)
    torch.testing.assert_close(dirty[:, 1:], clean[:, 1:], rtol=0, atol=1e-14)
    torch.testing.assert_close(dirty_last, last, rtol=0, atol=1e-14)


@rules
def test_what_is_saved_is_linear_in_time_and_small(delta):
    """The inputs, the states at the chunks' boundaries, and nothing of size chunk x chunk or state x steps."""
    sizes = {}
    for steps in (320, 640):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x):
            matrix_scan(*arguments(delta, steps=steps))
        sizes[steps] = sum(saved)
        inputs = BATCH * HEADS * (2 * KEY + VALUE + 2) + BATCH
        assert sizes[steps] <= steps * (inputs + BATCH * HEADS * KEY * VALUE / 32)
    assert sizes[640] == 2 * sizes[320]
