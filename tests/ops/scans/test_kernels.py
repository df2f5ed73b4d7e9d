"""The compiled ops against the PyTorch references that they replace: values, resets, threads."""

import pytest
import torch
from differences import worst
from torch import Tensor

from memsuite import ops
from memsuite.ops import REFERENCES
from memsuite.ops.build import cpu

pytestmark = pytest.mark.skipif(cpu.STATUS.library is None, reason=f"no compiled ops: {cpu.STATUS.reason}")

SHAPES = [(1, 1, 1), (5, 3, 17), (7, 16, 128), (9, 13, 40), (4, 2, 200), (33, 35, 3), (18, 1, 128)]
WIDE = {torch.float32: torch.float64, torch.complex64: torch.complex128}
NARROW = {torch.float64: torch.float32, torch.complex128: torch.complex64}
OPS = [
    "pscan",
    "gru_scan",
    "lstm_scan",
    "elman_scan",
    "slstm_scan",
    "diagonal",
    "diagonal-varying",
    "diagonal-complex",
    "diagonal-varying-complex",
    "selective",
]


def op_of(case: str) -> str:
    return {"diagonal": "diagonal_scan", "selective": "selective_scan"}.get(case.split("-")[0], case)


def arguments(case: str, steps: int, batch: int, size: int, reset: float = 0.2) -> list[Tensor]:
    """Draw float64 (or complex128) arguments of the forward op, as the schema orders them."""
    kind = torch.complex128 if case.endswith("complex") else torch.float64

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=kind)

    erase, h0 = torch.rand(steps, batch) < reset, draw(batch, size)
    x = draw(steps, batch, size)
    if case == "pscan":
        return [x, erase, h0]
    if case == "gru_scan":
        return [draw(steps, batch, 3 * size), erase, h0, draw(3 * size, size) / size**0.5, draw(3 * size)]
    if case == "lstm_scan":
        weights = [draw(4 * size, size) / size**0.5, draw(4 * size)]
        return [draw(steps, batch, 4 * size), erase, h0, draw(batch, size), *weights]
    if case == "elman_scan":
        return [x, erase, h0, draw(size, size) / size**0.5, draw(size)]
    if case == "slstm_scan":
        state = [h0, draw(batch, size), 1 + draw(batch, size).square(), draw(batch, size)]
        return [draw(steps, batch, 4 * size), erase, *state, draw(4 * size, size) / size**0.5, draw(4 * size)]
    if case == "selective":
        rates, dt = -draw(size, 5).exp(), draw(steps, batch, size).exp()
        return [x, dt, rates, draw(steps, batch, 5), draw(steps, batch, 5), erase, draw(batch, size, 5)]
    return [0.5 * (draw(steps, batch, size) if "varying" in case else draw(size)), x, erase, h0]


def backward_arguments(case: str, inputs: list[Tensor], outputs: tuple[Tensor, ...]) -> list[Tensor]:
    grad = torch.randn_like(outputs[0])
    if case == "pscan":
        return [grad, outputs[0], inputs[1]]
    if case == "gru_scan":
        return [grad, *outputs, *inputs[1:4]]
    if case == "lstm_scan":
        return [grad, torch.randn_like(outputs[1]), *outputs, *inputs[1:5]]
    if case == "elman_scan":
        return [grad, *outputs, *inputs[1:4]]
    if case == "slstm_scan":
        also = [torch.randn_like(outputs[1]), torch.randn_like(outputs[2])]
        return [grad, *also, *outputs[:3], outputs[4], *inputs[1:5], inputs[6]]
    if case == "selective":
        return [grad, torch.randn_like(outputs[2]), *inputs[:6], outputs[1]]
    return [grad, inputs[0], outputs[0], *inputs[2:]]


def as_tuple(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else found


def both_ways(case: str, inputs: list[Tensor], single: bool) -> list[tuple[Tensor, Tensor]]:
    """Return what the compiled op and the reference give, forward and backward; the reference always in float64."""
    op = op_of(case)

    def compiled(name: str, given: list[Tensor]) -> tuple[Tensor, ...]:
        narrow = [x.to(NARROW.get(x.dtype, x.dtype)) if single else x for x in given]
        found = as_tuple(getattr(torch.ops.memsuite, name)(*narrow))
        return tuple(x.to(WIDE.get(x.dtype, x.dtype)) for x in found)

    if single:  # the same numbers in both precisions
        inputs = [x.to(NARROW.get(x.dtype, x.dtype)).to(x.dtype) for x in inputs]
    expected = as_tuple(REFERENCES[op](*inputs))
    pairs = list(zip(compiled(op, inputs), expected, strict=True))
    after = backward_arguments(case, inputs, tuple(x.to(NARROW[x.dtype]).to(x.dtype) for x in expected))
    return pairs + list(
        zip(compiled(f"{op}_backward", after), as_tuple(REFERENCES[f"{op}_backward"](*after)), strict=True)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", OPS)
def test_equals_the_reference_in_float64(case, shape, level):
    for one, other in both_ways(case, arguments(case, *shape), single=False):
        assert one.shape == other.shape
        assert worst(one, other) < 1e-12


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("case", OPS)
def test_equals_the_reference_in_float32(case, shape, level):
    for one, other in both_ways(case, arguments(case, *shape), single=True):
        assert worst(one, other) < 5e-6


def test_gates_are_exact_to_rounding(level):
    """Large and tiny inputs: sigmoid and tanh to a few units in the last place, through one step of the ops."""
    x = torch.cat([torch.linspace(-30, 30, 4001), torch.logspace(-12, 2, 999), -torch.logspace(-12, 2, 1000)])
    erase, h0 = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, len(x))
    found = torch.ops.memsuite.pscan(x.view(1, 1, -1), erase, h0).flatten()
    torch.testing.assert_close(found, x.double().tanh().float(), rtol=4e-7, atol=0)
    gi = torch.stack([x, x, x], dim=1).view(-1, 1, 3).transpose(0, 1).contiguous()  # width 1, a row for every x
    zero = torch.zeros(len(x), 1)
    found = torch.ops.memsuite.gru_scan(gi, torch.ones(1, len(x)) > 0, zero, torch.zeros(3, 1), torch.zeros(3))[1]
    torch.testing.assert_close(found[0, :, 0], x.double().sigmoid().float(), rtol=1e-6, atol=2e-38)


@pytest.mark.parametrize("extreme", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("single", [True, False], ids=["float32", "float64"])
def test_extremes_pass_as_in_the_reference(extreme, single, level):
    inputs = arguments("pscan", 4, 3, 40, reset=0.0)
    inputs[0][1, 1, 5] = extreme
    x, erase, h0 = inputs
    x, h0 = (x.float(), h0.float()) if single else (x, h0)
    expected = REFERENCES["pscan"](x, erase, h0)
    torch.testing.assert_close(torch.ops.memsuite.pscan(x, erase, h0), expected, equal_nan=True)


@pytest.mark.parametrize("case", OPS)
def test_a_reset_erases_a_poisoned_state_and_its_gradient(case, level):
    """Whatever an erased state contained, nothing of it reaches the outputs or any gradient."""
    op, inputs = op_of(case), arguments(case, 4, 3, 20, reset=0.0)
    at = next(i for i, x in enumerate(inputs) if x.dtype == torch.bool)
    inputs[at][0, 1] = True
    state = at + 1
    for x in inputs[state : state + {"lstm_scan": 2, "slstm_scan": 4}.get(case, 1)]:
        x[1] = float("nan")
    outputs = as_tuple(getattr(torch.ops.memsuite, op)(*inputs))
    # The selective scan saves the unmodified state before a block; the others return states after steps.
    assert all(x.isfinite().all() for i, x in enumerate(outputs) if (case, i) != ("selective", 1))
    gradients = getattr(torch.ops.memsuite, f"{op}_backward")(*backward_arguments(case, inputs, outputs))
    assert all(x.isfinite().all() for x in gradients)


@pytest.mark.parametrize("case", OPS)
@pytest.mark.parametrize("shape", [(40, 16, 64), (30, 37, 33)], ids=str)
def test_threads_change_no_bit(case, shape):
    inputs = [x.to(NARROW.get(x.dtype, x.dtype)) for x in arguments(case, *shape)]
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outputs = as_tuple(getattr(torch.ops.memsuite, op_of(case))(*inputs))
            torch.manual_seed(1)
            after = backward_arguments(case, inputs, outputs)
            found.append([*outputs, *getattr(torch.ops.memsuite, f"{op_of(case)}_backward")(*after)])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize("case", OPS)
def test_registration_and_gradient(case):
    inputs = [x.requires_grad_(x.dtype != torch.bool) for x in arguments(case, 4, 2, 3)]
    torch.library.opcheck(getattr(torch.ops.memsuite, op_of(case)), tuple(inputs))
    if case == "slstm_scan":  # the stabiliser has no gradient, and what is held does not depend on it
        inputs[5].requires_grad_(False)
    assert torch.autograd.gradcheck(held if case == "slstm_scan" else getattr(ops, op_of(case)), inputs)


def held(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Return what an sLSTM holds: its cell and its normaliser without the stabiliser, and its output."""
    h, c, n, m = ops.slstm_scan(*inputs)
    return h, c * m.exp(), n * m.exp()


@pytest.mark.parametrize("case", OPS)
def test_strided_and_conjugate_inputs(case):
    inputs = arguments(case, 6, 3, 5)
    expected = as_tuple(getattr(torch.ops.memsuite, op_of(case))(*inputs))
    strided = [x.transpose(0, -1).contiguous().transpose(0, -1) if x.dim() > 1 else x for x in inputs]
    strided = [x.conj().resolve_conj().conj() if x.is_complex() else x for x in strided]  # a lazily conjugated view
    for one, other in zip(as_tuple(getattr(torch.ops.memsuite, op_of(case))(*strided)), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(half):
    inputs = [x.to(half) if x.is_floating_point() else x for x in arguments("gru_scan", 6, 3, 20)]
    wide = [x.float() if x.is_floating_point() else x for x in inputs]
    for one, other in zip(torch.ops.memsuite.gru_scan(*inputs), torch.ops.memsuite.gru_scan(*wide), strict=True):
        assert one.dtype == half
        assert torch.equal(one, other.to(half))


def test_shapes_that_do_not_fit_raise():
    x, reset, h0 = arguments("pscan", 4, 3, 5)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        torch.ops.memsuite.pscan(x, reset, h0[:2])
    with pytest.raises(RuntimeError, match="one kind of number"):
        torch.ops.memsuite.pscan(x, reset, h0.float())
