"""The matrix-state scan against its own definition, one step at a time; its gradient, registration and memory.

It runs as the op, compiled where possible, and as the chunked reference with chunks of several lengths.
"""

import pytest
import torch
from matrix_rules import RULES, decay_and_rule, rules

from memsuite.ops import matrix_scan, matrix_step
from memsuite.ops.scans import matrix_scan as module
from memsuite.ops.scans.matrix_step import _forward as plain_step

STEPS, BATCH, HEADS, KEY, VALUE = 7, 3, 2, 3, 2
sharing = pytest.mark.parametrize("key_heads", [HEADS, 1], ids=["keys_apart", "keys_shared"])


class Reference(torch.autograd.Function):
    """The op's PyTorch reference and its backward, even where a compiled op exists."""

    @staticmethod
    def forward(ctx, *inputs):
        y, states, last = module._forward(*inputs)
        ctx.save_for_backward(*inputs[:5], states, *inputs[6:])
        return y, last

    @staticmethod
    def backward(ctx, grad_y, grad_last):
        dq, dk, dv, dg, ds, *rest = module._backward(grad_y, grad_last, *ctx.saved_tensors)
        taken = zip(ctx.saved_tensors[6:], rest, strict=True)
        return dq, dk, dv, dg, None, ds, *(None if x is None else d for x, d in taken)


@pytest.fixture(params=["op", 1, 3, 32], ids=lambda kind: kind if kind == "op" else f"chunk{kind}")
def scan(request, monkeypatch):
    """Return the op, or its reference with chunks of this number of steps."""
    if request.param == "op":
        return matrix_scan
    monkeypatch.setattr(module, "CHUNK", request.param)
    return Reference.apply


def arguments(rule="sum", key_heads=HEADS, steps=STEPS, dtype=torch.float64, resets=0.3):
    def draw(*shape):
        return torch.randn(*shape, dtype=dtype)

    q, k, v = draw(steps, BATCH, key_heads, KEY), draw(steps, BATCH, key_heads, KEY), draw(steps, BATCH, HEADS, VALUE)
    s0 = draw(BATCH, HEADS, KEY, VALUE)
    log_decay, *taken = decay_and_rule(rule, (steps, BATCH, HEADS), KEY, dtype)
    k = torch.nn.functional.normalize(k, dim=-1)
    inputs = [q, k, v, log_decay, torch.rand(steps, BATCH) < resets, s0, *taken]
    return [x.requires_grad_() if x is not None and x.is_floating_point() else x for x in inputs]


def loop(q, k, v, log_decay, reset, s, *taken):
    out = []
    for t in range(len(v)):
        s = s.masked_fill(reset[t].view(-1, 1, 1, 1), 0)
        y, s = plain_step(q[t], k[t], v[t], log_decay[t], s, *(None if x is None else x[t] for x in taken))
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
def test_it_is_the_recurrence(scan, rule, key_heads, resets):
    inputs = arguments(rule, key_heads, steps=70, resets=resets)
    for one, other in zip(with_gradients(scan, inputs), with_gradients(loop, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@rules
@sharing
def test_gradient_equals_finite_differences(rule, key_heads):
    """That of the op; the reference's is compared above, to 1e-12, with the loop's."""
    assert torch.autograd.gradcheck(matrix_scan, arguments(rule, key_heads))


@rules
@pytest.mark.parametrize("used", [0, 1], ids=["y", "state"])
def test_gradient_of_one_output_alone(rule, used):
    assert torch.autograd.gradcheck(lambda *inputs: matrix_scan(*inputs)[used], arguments(rule))


@rules
@sharing
def test_registration_is_sound(rule, key_heads):
    torch.library.opcheck(torch.ops.memsuite.matrix_scan, arguments(rule, key_heads, steps=33))


def test_second_derivative_is_refused():
    inputs = arguments()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(matrix_scan(*inputs)[0].square().sum(), inputs[0], create_graph=True)


@rules
def test_autocast_does_not_reach_into_it(rule):
    inputs = arguments(rule, steps=70, dtype=torch.float32)
    expected = with_gradients(matrix_scan, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(*pair) for pair in zip(with_gradients(matrix_scan, inputs), expected, strict=True))


@rules
def test_float32_is_close_to_float64(rule):
    inputs = arguments(rule, steps=70, resets=0.1)
    single = [x.detach().float().requires_grad_() if x is not None and x.requires_grad else x for x in inputs]
    for one, other in zip(with_gradients(matrix_scan, single), with_gradients(matrix_scan, inputs), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


@rules
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_reset_erases_whatever_state_came_before(scan, rule, poison):
    q, k, v, log_decay, reset, s0, *taken = arguments(rule, resets=0)
    reset[4, 0] = True
    clean, last = scan(q, k, v, log_decay, reset, s0, *taken)
    bad = s0.detach().clone()
    bad[0] = poison
    dirty, dirty_last = scan(q, k, v, log_decay, reset, bad, *taken)
    assert not torch.isfinite(dirty[:4, 0]).any()
    for one, other in ((dirty[4:], clean[4:]), (dirty[:, 1:], clean[:, 1:]), (dirty_last, last)):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


@rules
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_an_episode_gone_wrong_leaves_nothing_to_the_next(scan, rule, poison):
    inputs = arguments(rule, resets=0)
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
def test_what_is_saved_is_linear_in_time_and_small(rule):
    """The inputs, the states at the chunks' boundaries, and nothing of size chunk x chunk or state x steps."""
    sizes = {}
    for steps in (320, 640):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x):
            matrix_scan(*arguments(rule, steps=steps))
        sizes[steps] = sum(saved)
        channels, kind = RULES[rule]
        taken = {"sum": 0, "delta": 1, "edit": 2 * KEY}[kind] + (KEY if channels else 1)
        inputs = BATCH * HEADS * (2 * KEY + VALUE + taken) + BATCH
        assert sizes[steps] <= steps * (inputs + BATCH * HEADS * KEY * VALUE / 32)
    assert sizes[640] == 2 * sizes[320]


@pytest.mark.parametrize("scan", ["op", 32], indirect=True, ids=str)
def test_the_rules_are_cases_of_the_edit(scan):
    """A decay of a head is one of all its channels; the delta rule erases along its key at the decayed key."""
    q, k, v, log_decay, reset, s0, beta, *_ = arguments("delta", steps=40, resets=0.2)
    channels = log_decay.unsqueeze(-1).expand_as(k)
    along = beta.unsqueeze(-1) * k
    expected = scan(q, k, v, log_decay, reset, s0, beta, None, None)
    for taken in ((k, channels, beta, None, None), (along, channels, None, along, channels.exp() * k)):
        key, decays, *rule = taken
        for one, other in zip(scan(q, key, v, decays, reset, s0, *rule), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_an_edit_takes_a_decay_of_the_head():
    q, k, v, log_decay, reset, s0, _, erase, address = arguments("edit", steps=40, resets=0.2)
    of_head = log_decay[..., 0]
    expected = matrix_scan(q, k, v, of_head.unsqueeze(-1).expand_as(k), reset, s0, None, erase, address)
    for one, other in zip(matrix_scan(q, k, v, of_head, reset, s0, None, erase, address), expected, strict=True):
        assert torch.equal(one, other)


@rules
def test_strong_decays_stay_in_range_and_keep_their_digits(rule):
    """Within a chunk the decays multiply to far less than the smallest number of float32, and some are weak."""
    wide = arguments(rule, steps=64, resets=0)
    strong = torch.rand(wide[3].shape) < 0.2
    wide[3] = torch.where(strong, -200.0, 0.1 * wide[3].detach()).requires_grad_()
    wide = [x if x is None or x.dtype == torch.bool else x.detach().float().double().requires_grad_() for x in wide]
    narrow = [x if x is None or x.dtype == torch.bool else x.detach().float().requires_grad_() for x in wide]
    expected = with_gradients(loop, wide)
    for found in (with_gradients(Reference.apply, narrow), with_gradients(matrix_scan, narrow)):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-5 * float(other.detach().abs().max()))


def test_an_edit_and_the_delta_rule_exclude_each_other_and_an_edit_has_two_parts():
    q, k, v, log_decay, reset, s0, _, erase, address = (
        x if x is None else x.detach() for x in arguments("edit", steps=1, resets=0)
    )
    for taken in ((torch.rand(1, BATCH, HEADS), erase, address), (None, erase, None), (None, None, address)):
        with pytest.raises(ValueError, match="takes beta, or erase and address, or neither"):
            matrix_scan(q, k, v, log_decay, reset, s0, *taken)
        once = [None if x is None else x[0] for x in taken]
        with pytest.raises(ValueError, match="takes beta, or erase and address, or neither"):
            matrix_step(q[0], k[0], v[0], log_decay[0], s0, *once)
