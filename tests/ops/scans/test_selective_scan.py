"""The selective scan against its recurrence, its gradient by finite differences, its registration, its memory."""

import functools

import pytest
import torch

from memsuite.ops import selective_scan, selective_step
from memsuite.ops.scans import selective_scan as module


def scan_arguments(steps=37, batch=3, channels=4, states=5, dtype=torch.float64):
    """Draw arguments with decays between almost none and almost all, and with resets."""
    draw = functools.partial(torch.randn, dtype=dtype)
    dt, a = draw(steps, batch, channels).exp(), -draw(channels, states).exp()
    tensors = [draw(steps, batch, channels), dt, a, draw(steps, batch, states), draw(steps, batch, states)]
    reset, h0 = torch.rand(steps, batch) < 0.1, draw(batch, channels, states)
    return [x.requires_grad_() for x in tensors], reset, h0.requires_grad_()


def transcription(u, dt, a, b, c, reset, h):
    """Run the recurrence in the form of the paper."""
    ys = []
    for u_t, dt_t, b_t, c_t, reset_t in zip(*(x.unbind() for x in (u, dt, b, c, reset)), strict=True):
        h = torch.where(reset_t.view(-1, 1, 1), 0, h)
        h = torch.exp(dt_t[:, :, None] * a) * h + dt_t[:, :, None] * b_t[:, None, :] * u_t[:, :, None]
        ys.append((h * c_t[:, None, :]).sum(-1))
    return torch.stack(ys), h


def outputs_and_gradients(scan, arguments):
    (u, dt, a, b, c), reset, h0 = arguments
    y, last = scan(u, dt, a, b, c, reset, h0)
    torch.manual_seed(2)
    loss = (y * torch.randn_like(y)).sum() + (last * torch.randn_like(last)).sum()
    return [y, last, *torch.autograd.grad(loss, [u, dt, a, b, c, h0])]


@pytest.mark.parametrize("tile", [1, 16 * 20 * 2, 1 << 19], ids=["row_by_row", "two_rows", "whole_batch"])
@pytest.mark.parametrize("steps", [1, 15, 16, 17, 37])
def test_scan_is_its_recurrence(steps, tile, monkeypatch):
    monkeypatch.setattr(module, "TILE", tile)
    arguments = scan_arguments(steps)
    ones, others = outputs_and_gradients(selective_scan, arguments), outputs_and_gradients(transcription, arguments)
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("channels", "states"), [(1, 5), (4, 1), (1, 1)])
def test_with_one_channel_or_one_state(channels, states):
    arguments = scan_arguments(channels=channels, states=states)
    ones, others = outputs_and_gradients(selective_scan, arguments), outputs_and_gradients(transcription, arguments)
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    (u, dt, a, b, c), reset, h0 = arguments
    torch.library.opcheck(torch.ops.memsuite.selective_scan, (u, dt, a, b, c, reset, h0))


def test_step_is_its_recurrence():
    (u, dt, a, b, c), reset, h0 = scan_arguments(1)
    y, last = transcription(u, dt, a, b, c, torch.zeros_like(reset), h0)
    y_step, h = selective_step(u[0], dt[0], a, b[0], c[0], h0)
    torch.testing.assert_close(y_step, y[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(h, last, rtol=0, atol=1e-12)


def test_gradient_equals_finite_differences():
    (u, dt, a, b, c), reset, h0 = scan_arguments(18, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x[:5], reset, x[5]), (u, dt, a, b, c, h0))


def test_registration_is_sound_and_the_second_derivative_refused():
    (u, dt, a, b, c), reset, h0 = scan_arguments(18)
    torch.library.opcheck(torch.ops.memsuite.selective_scan, (u, dt, a, b, c, reset, h0))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(selective_scan(u, dt, a, b, c, reset, h0)[0].sum(), u, create_graph=True)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_reset_erases_whatever_came_before(poison):
    (u, dt, a, b, c), reset, h0 = (x if isinstance(x, list) else x.detach() for x in scan_arguments())
    reset = torch.zeros_like(reset)
    reset[20, 0] = True
    clean, last = selective_scan(u, dt, a, b, c, reset, h0)
    dirty = u.detach().clone()
    dirty[5, 0] = poison
    out, after = selective_scan(dirty, dt, a, b, c, reset, h0)
    assert not torch.isfinite(out[5:20, 0]).any()
    assert torch.equal(out[20:], clean[20:])
    assert torch.equal(out[:, 1:], clean[:, 1:])
    assert torch.equal(after, last)


def test_float32_is_close_to_float64():
    arguments = scan_arguments()
    narrow = [[x.detach().float().requires_grad_() for x in arguments[0]], arguments[1]]
    narrow.append(arguments[2].detach().float().requires_grad_())
    ones, others = outputs_and_gradients(selective_scan, narrow), outputs_and_gradients(selective_scan, arguments)
    for one, other in zip(ones[:2], others[:2], strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)


def test_saves_no_state_of_every_step():
    """Apart from its inputs, the graph holds the states at the blocks' boundaries, a sixteenth of all."""
    saved = []
    (u, dt, a, b, c), reset, h0 = scan_arguments(320, 2, 8, 16, torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        selective_scan(u, dt, a, b, c, reset, h0)
    inputs = {x.data_ptr() for x in (u, dt, a, b, c, reset)}
    assert sum(x.numel() for x in saved if x.data_ptr() not in inputs) == 320 * 2 * 8 * 16 // module.STEPS


def test_autocast_leaves_the_scan_in_full_precision():
    (u, dt, a, b, c), reset, h0 = scan_arguments(dtype=torch.float32)
    expected = outputs_and_gradients(selective_scan, ([u, dt, a, b, c], reset, h0))
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs_and_gradients(selective_scan, ([u, dt, a, b, c], reset, h0))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
