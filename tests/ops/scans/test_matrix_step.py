"""The compiled step of the matrix state against its plain formula: values, odd sizes, threads, instruction sets."""

import pytest
import torch
from differences import worst
from matrix_rules import APART, cast, decay_and_rule, rules, sharing, sizes
from torch import Tensor

from memsuite.ops import matrix_scan, matrix_step
from memsuite.ops.build import cpu
from memsuite.ops.scans import matrix_step as module

compiled = pytest.mark.skipif(cpu.STATUS.library is None, reason=f"no compiled ops: {cpu.STATUS.reason}")
# Environments, heads, keys, values: odd sizes, sizes that do not fill vectors, and the sizes of the models.
SHAPES = [(1, 1, 1, 1), (3, 2, 5, 7), (1, 3, 17, 16), (2, 4, 32, 33), (2, 4, 64, 64)]


def arguments(shape, rule, shared=APART) -> list[Tensor | None]:
    """Draw float64 arguments, exact in float32 too."""
    batch, heads, keys, values = shape

    def draw(*size: int) -> Tensor:
        return torch.randn(*size).double()

    q, k = draw(batch, shared[0] or heads, keys), draw(batch, shared[1] or heads, keys)
    k = torch.nn.functional.normalize(k, dim=-1).float().double()
    log_decay, *taken = decay_and_rule(rule, (batch, heads), keys)
    return [q, k, draw(batch, heads, values), log_decay, draw(batch, heads, keys, values), *taken]


def backward_arguments(inputs) -> list[Tensor | None]:
    return [torch.randn_like(x.float()).to(x.dtype) for x in (inputs[2], inputs[4])] + list(inputs)


@compiled
@rules
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "shared"), sizes(SHAPES, (3, 2, 5, 7), (2, 4, 64, 64)), ids=str)
def test_equals_the_plain_formula(shape, kind, shared, rule, level):
    inputs = arguments(shape, rule, shared)
    after = backward_arguments(inputs)
    expected = [*module._forward(*inputs), *module._backward(*after)]
    found = [*torch.ops.memsuite.matrix_step(*cast(inputs, kind))]
    found += torch.ops.memsuite.matrix_step_backward(*cast(after, kind))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert not one.numel() or worst(one.double(), other) < (1e-12 if kind == torch.float64 else 5e-6)


@rules
@sharing
def test_is_one_step_of_the_scan(shared, rule):
    q, k, v, log_decay, s, *taken = arguments((3, 4, 5, 7), rule, shared)
    no_reset, once = torch.zeros(1, 3, dtype=torch.bool), [None if x is None else x[None] for x in taken]
    y, after = matrix_scan(q[None], k[None], v[None], log_decay[None], no_reset, s, *once)
    for one, other in zip(matrix_step(q, k, v, log_decay, s, *taken), (y[0], after), strict=True):
        assert worst(one, other) < 1e-12


@compiled
@rules
@sharing
def test_threads_change_no_bit(shared, rule):
    inputs, found = cast(arguments((70, 4, 32, 33), rule, shared), torch.float32), []
    after = backward_arguments(inputs)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            run = torch.ops.memsuite
            found.append([*run.matrix_step(*inputs), *run.matrix_step_backward(*after)])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@rules
@sharing
def test_registration_and_gradient(shared, rule):
    inputs = [x if x is None else x.requires_grad_() for x in arguments((2, 2, 3, 2), rule, shared)]
    torch.library.opcheck(torch.ops.memsuite.matrix_step, inputs)
    assert torch.autograd.gradcheck(matrix_step, inputs)


@compiled
@rules
def test_strided_inputs(rule):
    inputs = arguments((3, 2, 5, 7), rule)
    run = torch.ops.memsuite
    for op, given in ((run.matrix_step, inputs), (run.matrix_step_backward, backward_arguments(inputs))):
        strided = [x if x is None else x.transpose(0, -1).contiguous().transpose(0, -1) for x in given]
        assert all(torch.equal(*pair) for pair in zip(op(*given), op(*strided), strict=True))


@rules
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_the_precision_of_the_state(half, rule):
    inputs = cast(arguments((3, 2, 5, 7), rule), half)
    state = inputs[4].float()
    low = matrix_step(*inputs[:4], state, *inputs[5:])
    wide = matrix_step(*cast(inputs[:4], torch.float32), state, *cast(inputs[5:], torch.float32))
    assert all(torch.equal(one, other) for one, other in zip(low, wide, strict=True))


@pytest.mark.parametrize("fault", ["heads", "keys", "dtype", "dimensions"])
@compiled
def test_arguments_that_do_not_fit_are_refused(fault):
    inputs = arguments((3, 4, 5, 7), "sum")
    if fault == "dtype":
        inputs[4] = inputs[4].float()
    else:
        at = {"heads": (slice(None), slice(2)), "keys": (..., slice(3)), "dimensions": (0,)}[fault]
        inputs[0] = inputs[0][at]
    with pytest.raises(RuntimeError):
        torch.ops.memsuite.matrix_step(*inputs)


@compiled
def test_an_edit_takes_a_decay_of_the_head():
    q, k, v, log_decay, s, _, erase, address = arguments((3, 4, 5, 7), "edit")
    of_head = log_decay[..., 0].contiguous()
    wide = [q, k, v, of_head.unsqueeze(-1).expand_as(k).contiguous(), s, None, erase, address]
    narrow = [q, k, v, of_head, s, None, erase, address]
    for one, other in zip(torch.ops.memsuite.matrix_step(*narrow), torch.ops.memsuite.matrix_step(*wide), strict=True):
        assert torch.equal(one, other)
    torch.manual_seed(1)
    after = backward_arguments(wide)
    of_channels = torch.ops.memsuite.matrix_step_backward(*after)[3]
    assert worst(torch.ops.memsuite.matrix_step_backward(*after[:2], *narrow)[3], of_channels.sum(-1)) < 1e-12
