"""Every op: its gradient by finite differences, its registration, its float32 against its float64."""

import pytest
import torch
from torch import Tensor

from memsuite.ops import diagonal_scan, elman_scan, gru_scan, lstm_scan, pscan, slstm_scan
from memsuite.ops.scans import resets as scan_blocks

STEPS, BATCH, WIDTH = 7, 3, 4


def resets(kind: str) -> Tensor:
    if kind == "none":
        return torch.zeros(STEPS, BATCH, dtype=torch.bool)
    if kind == "all":
        return torch.ones(STEPS, BATCH, dtype=torch.bool)
    return torch.rand(STEPS, BATCH) < 0.3


def arguments(op: str, reset: Tensor) -> tuple[Tensor, ...]:
    dtype = torch.complex128 if op.endswith("complex") else torch.float64

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype).requires_grad_()

    if op.startswith("diagonal_scan"):
        decay = draw(STEPS, BATCH, WIDTH) if "varying" in op else draw(WIDTH)
        return decay, draw(STEPS, BATCH, WIDTH), reset, draw(BATCH, WIDTH)
    if op == "pscan":
        return draw(STEPS, BATCH, WIDTH), reset, draw(BATCH, WIDTH)
    if op == "elman_scan":
        return draw(STEPS, BATCH, WIDTH), reset, draw(BATCH, WIDTH), draw(WIDTH, WIDTH), draw(WIDTH)
    if op == "slstm_scan":
        state = [draw(BATCH, WIDTH), draw(BATCH, WIDTH), torch.rand(BATCH, WIDTH).double().add(1).requires_grad_()]
        weights = draw(4 * WIDTH, WIDTH), draw(4 * WIDTH)
        return draw(STEPS, BATCH, 4 * WIDTH), reset, *state, draw(BATCH, WIDTH).detach(), *weights
    if op == "lstm_scan":
        state = draw(BATCH, WIDTH), draw(BATCH, WIDTH)
        return draw(STEPS, BATCH, 4 * WIDTH), reset, *state, draw(4 * WIDTH, WIDTH), draw(4 * WIDTH)
    return draw(STEPS, BATCH, 3 * WIDTH), reset, draw(BATCH, WIDTH), draw(3 * WIDTH, WIDTH), draw(3 * WIDTH)


def size_of(out: Tensor) -> Tensor:
    """Return a real number that depends on everything in ``out``."""
    return (torch.view_as_real(out) if out.is_complex() else out).square().sum()


OPS = {
    "pscan": pscan,
    "gru_scan": gru_scan,
    "lstm_scan": lambda *inputs: torch.stack(lstm_scan(*inputs)),
    "elman_scan": elman_scan,
    "slstm_scan": lambda *inputs: torch.stack(slstm_scan(*inputs)[:1]),
    "diagonal_scan": diagonal_scan,
    "diagonal_scan-varying": diagonal_scan,
    "diagonal_scan-complex": diagonal_scan,
    "diagonal_scan-varying-complex": diagonal_scan,
}


@pytest.mark.parametrize("kind", ["none", "some", "all"])
@pytest.mark.parametrize("op", OPS)
def test_gradient_equals_finite_differences(op, kind):
    assert torch.autograd.gradcheck(OPS[op], arguments(op, resets(kind)))


@pytest.mark.parametrize("op", OPS)
def test_gradient_of_a_single_step(op):
    inputs = arguments(op, torch.tensor([[True, False, False]]))
    inputs = tuple(x[:1].detach().requires_grad_() if x.dim() == 3 else x for x in inputs)
    assert torch.autograd.gradcheck(OPS[op], inputs)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_reset_erases_whatever_came_before(op, poison):
    """An episode with NaNs in the middle of a row leaves nothing to the next episode, bit for bit."""
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[4, 0] = True
    inputs = [x.detach() for x in arguments(op, reset)]
    drive = 1 if op.startswith("diagonal_scan") else 0
    clean = OPS[op](*inputs)
    inputs[drive] = inputs[drive].clone()
    inputs[drive][2, 0] = poison
    dirty = OPS[op](*inputs)
    time = 1 if op in ("lstm_scan", "slstm_scan") else 0  # their parts are stacked in the first dimension
    assert not torch.equal(dirty, clean)
    assert torch.equal(dirty.narrow(time, 4, 3), clean.narrow(time, 4, 3))
    assert torch.equal(dirty.narrow(time + 1, 1, 2), clean.narrow(time + 1, 1, 2))


@pytest.mark.parametrize("op", OPS)
def test_registration_is_sound(op):
    torch.library.opcheck(getattr(torch.ops.memsuite, op.split("-")[0]), arguments(op, resets("some")))


@pytest.mark.parametrize("op", OPS)
def test_second_derivative_is_refused(op):
    inputs = arguments(op, resets("some"))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(size_of(OPS[op](*inputs)), inputs[0], create_graph=True)


@pytest.mark.parametrize("op", OPS)
def test_float32_is_close_to_float64(op):
    inputs = arguments(op, resets("some"))
    narrow = {torch.float64: torch.float32, torch.complex128: torch.complex64, torch.bool: torch.bool}
    single = [x.detach().to(narrow[x.dtype]).requires_grad_(x.requires_grad) for x in inputs]
    out, out_single = OPS[op](*inputs), OPS[op](*single)
    torch.testing.assert_close(out_single, out.to(out_single.dtype), rtol=2e-6, atol=2e-6)
    size_of(out).backward()
    size_of(out_single).backward()
    for one, other in zip(single, inputs, strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad.to(one.dtype), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", OPS)
def test_non_contiguous_inputs_give_the_same(op):
    inputs = [x.detach() for x in arguments(op, resets("some"))]
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() > 1 else x for x in inputs]
    grads = []
    for given in (inputs, strided):
        leaves = [x.clone(memory_format=torch.preserve_format) for x in given]
        leaves = [x.requires_grad_(x.dtype != torch.bool) for x in leaves]
        out = OPS[op](*leaves)
        size_of(out).backward()
        grads.append([out, *(x.grad for x in leaves if x.grad is not None)])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("used", [0, 1], ids=["h", "c"])
def test_lstm_gradient_of_one_output_alone(used):
    assert torch.autograd.gradcheck(lambda *inputs: lstm_scan(*inputs)[used], arguments("lstm_scan", resets("some")))


@pytest.mark.parametrize("op", ["gru_scan", "lstm_scan", "elman_scan", "slstm_scan", "diagonal_scan"])
def test_blocks_of_the_backward_pass_join(op, monkeypatch):
    inputs = arguments(op, resets("some"))
    expected = torch.autograd.grad(size_of(OPS[op](*inputs)), [x for x in inputs if x.requires_grad])
    monkeypatch.setattr(scan_blocks, "BLOCK", 2 * BATCH * WIDTH * (4 if op in ("lstm_scan", "slstm_scan") else 1))
    parts = torch.autograd.grad(size_of(OPS[op](*inputs)), [x for x in inputs if x.requires_grad])
    for one, other in zip(parts, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_block_is_of_many_steps_where_every_block_costs_launches():
    """On a GPU, blocks of one step of a wide batch would launch for each step what is meant for many at once."""
    numbers = 4 * 1024 * 128
    assert scan_blocks.steps_of_a_block(numbers, torch.device("cpu")) == 1
    assert scan_blocks.steps_of_a_block(numbers, torch.device("cuda")) >= 100
