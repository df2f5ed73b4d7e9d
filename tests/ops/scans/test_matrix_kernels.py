"""The compiled matrix-state scan against its reference: values, odd sizes, resets, threads, instruction sets."""

import pytest
import torch
from differences import worst
from matrix_rules import APART, cast, decay_and_rule, rules, sharing, sizes
from torch import Tensor

from memsuite.ops import matrix_scan
from memsuite.ops.build import cpu
from memsuite.ops.scans import matrix_scan as module

pytestmark = pytest.mark.skipif(cpu.STATUS.library is None, reason=f"no compiled ops: {cpu.STATUS.reason}")

# Steps, environments, heads, keys, values: odd sizes, sizes that do not fill vectors, and the sizes of the models.
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 3, 2, 5, 7),
    (33, 3, 2, 5, 7),
    (65, 1, 3, 17, 16),
    (33, 2, 4, 32, 33),
    (34, 1, 2, 64, 64),
]


def arguments(shape, rule, shared=APART, reset=0.1) -> list[Tensor | None]:
    """Draw float64 arguments of the forward op, exact in float32 too."""
    steps, batch, heads, keys, values = shape

    def draw(*size: int) -> Tensor:
        return torch.randn(*size).double()

    q, k = draw(steps, batch, shared[0] or heads, keys), draw(steps, batch, shared[1] or heads, keys)
    k = torch.nn.functional.normalize(k, dim=-1).float().double()
    log_decay, *taken = decay_and_rule(rule, (steps, batch, heads), keys)
    resets, s0 = torch.rand(steps, batch) < reset, draw(batch, heads, keys, values)
    return [q, k, draw(steps, batch, heads, values), log_decay, resets, s0, *taken]


def backward_arguments(inputs, outputs) -> list[Tensor | None]:
    grads = [torch.randn_like(x.float()).to(x.dtype) for x in (outputs[0], outputs[2])]
    return [*grads, *inputs[:5], outputs[1], *inputs[6:]]


def both_ways(inputs, kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return what the compiled op and the reference give, forward and backward; the reference always in float64."""
    expected = module._forward(*inputs)
    after = cast(cast(backward_arguments(inputs, expected), kind), torch.float64)
    found = [*torch.ops.memsuite.matrix_scan(*cast(inputs, kind))]
    found += torch.ops.memsuite.matrix_scan_backward(*cast(after, kind))
    return [
        (one.double(), other)
        for one, other in zip(found, [*expected, *module._backward(*after)], strict=True)
        if other.numel()
    ]


@rules
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "shared"), sizes(SHAPES, (33, 3, 2, 5, 7), (34, 1, 2, 64, 64)), ids=str)
def test_equals_the_reference(shape, kind, shared, rule, level):
    for one, other in both_ways(arguments(shape, rule, shared), kind):
        assert one.shape == other.shape
        assert worst(one, other) < (1e-12 if kind == torch.float64 else 5e-6)


@rules
@pytest.mark.parametrize(("shape", "step"), [((7, 3, 2, 5, 7), 0), ((35, 2, 1, 17, 33), 5), ((35, 2, 1, 17, 33), 33)])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_nothing_crosses_a_reset(shape, step, poison, rule, level):
    """A value that is not finite before a reset changes no bit of the outputs after it, nor of their gradients."""
    clean, found = arguments(shape, rule, reset=0.0), []
    clean[4][step, 0] = True
    dirty = [x if x is None else x.clone() for x in clean]
    dirty[5][0] = poison
    dirty[2][:step, 0] = poison
    for inputs in (clean, dirty):
        outputs = torch.ops.memsuite.matrix_scan(*inputs)
        torch.manual_seed(3)
        *grads, d_s0, d_beta, d_erase, d_address = torch.ops.memsuite.matrix_scan_backward(
            *backward_arguments(inputs, outputs)
        )
        parts = [outputs[0], *grads, *(x for x in (d_beta, d_erase, d_address) if x.numel())]
        found.append([outputs[2], d_s0[1:], *(x[step:] for x in parts), *(x[:, 1:] for x in parts)])
        assert outputs[0][step:].isfinite().all()
        assert step > 0 or d_s0.isfinite().all()
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@rules
@sharing
def test_threads_change_no_bit(shared, rule):
    inputs, found = cast(arguments((70, 7, 4, 32, 33), rule, shared), torch.float32), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outputs = torch.ops.memsuite.matrix_scan(*inputs)
            torch.manual_seed(1)
            after = backward_arguments(inputs, outputs)
            found.append([*outputs, *torch.ops.memsuite.matrix_scan_backward(*after)])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@rules
@sharing
def test_gradient_equals_finite_differences_across_chunks(shared, rule):
    inputs = arguments((34, 2, 2, 3, 2), rule, shared)
    inputs = [x.requires_grad_() if x is not None and x.dtype != torch.bool else x for x in inputs]
    assert torch.autograd.gradcheck(matrix_scan, inputs)


@rules
def test_strided_inputs(rule):
    inputs = arguments((6, 3, 2, 5, 7), rule)
    after = backward_arguments(inputs, torch.ops.memsuite.matrix_scan(*inputs))
    for run, given in ((torch.ops.memsuite.matrix_scan, inputs), (torch.ops.memsuite.matrix_scan_backward, after)):
        strided = [x if x is None else x.transpose(0, -1).contiguous().transpose(0, -1) for x in given]
        assert all(torch.equal(*pair) for pair in zip(run(*given), run(*strided), strict=True))


@rules
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(half, rule):
    inputs = cast(arguments((6, 3, 2, 5, 7), rule), half)
    wide = torch.ops.memsuite.matrix_scan(*cast(inputs, torch.float32))
    for one, other in zip(torch.ops.memsuite.matrix_scan(*inputs), wide, strict=True):
        assert one.dtype == half
        assert torch.equal(one, other.to(half))


@rules
def test_a_reset_erases_a_poisoned_state_and_its_gradient(run, rule):
    inputs = arguments((4, 3, 2, 3, 5), rule, reset=0.0)
    inputs[4][0, 1] = True
    inputs[5][1] = float("nan")
    outputs = run("matrix_scan", False)(*inputs)
    assert all(outputs[at].isfinite().all() for at in (0, 2))
    assert all(x.isfinite().all() for x in run("matrix_scan", True)(*backward_arguments(inputs, outputs)))


@rules
def test_no_gradient_crosses_a_reset(run, rule):
    """A value that is not finite before a reset changes no gradient after it, in the reference either."""
    clean, found = arguments((9, 2, 2, 3, 5), rule, reset=0.0), []
    clean[4][5, 0] = True
    dirty = [x if x is None else x.clone() for x in clean]
    dirty[2][2, 0] = float("inf")
    for inputs in (clean, dirty):
        torch.manual_seed(3)
        d_q, d_k, d_v, d_decay, d_s0, *_ = run("matrix_scan", True)(
            *backward_arguments(inputs, run("matrix_scan", False)(*inputs))
        )
        found.append(
            [*(x[5:] for x in (d_q, d_k, d_v, d_decay)), *(x[:, 1] for x in (d_q, d_k, d_v, d_decay)), d_s0[1]]
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@rules
def test_decays_from_none_to_all(run, rule):
    """A decay of 1 keeps the state to the bit; a decay below the range of numbers leaves nothing of it."""
    inputs = arguments((40, 2, 2, 5, 7), rule, reset=0.0)
    for at in (1, 2, 3, *([7] if inputs[7] is not None else [])):
        inputs[at].zero_()
    assert torch.equal(run("matrix_scan", False)(*inputs)[2], inputs[5])
    inputs[3].fill_(-torch.inf)
    assert run("matrix_scan", False)(*inputs)[2].abs().max() < 1e-300


def test_shapes_that_do_not_fit_raise():
    inputs = arguments((4, 3, 4, 5, 7), "delta")
    for index, wrong, words in ((0, inputs[0][:, :, :2], "heads of v"), (5, inputs[5][:2], "shapes do not fit")):
        with pytest.raises(RuntimeError, match=words):
            torch.ops.memsuite.matrix_scan(*inputs[:index], wrong, *inputs[index + 1 :])
    with pytest.raises(RuntimeError, match="one kind of number"):
        torch.ops.memsuite.matrix_scan(*inputs[:5], inputs[5].float(), *inputs[6:])
    with pytest.raises(RuntimeError, match="must be real"):
        torch.ops.memsuite.matrix_scan(*cast(inputs, torch.complex64))


def test_an_edit_and_the_delta_rule_exclude_each_other_and_an_edit_has_two_parts():
    *inputs, beta, erase, address = arguments((4, 3, 4, 5, 7), "edit")
    for taken in ((torch.rand(4, 3, 4).double(), erase, address), (beta, erase, None), (beta, None, address)):
        with pytest.raises(RuntimeError, match="takes beta, or erase and address, or neither"):
            torch.ops.memsuite.matrix_scan(*inputs, *taken)
