"""What the fake of an op promises is what is made: a compiled model trusts shapes, kinds of number and strides."""

import pytest
import torch
from ops.calls import Calls
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import memsuite.ops
from memsuite.bench.op_cases import CASES

STEPS, ROWS = 5, 2
every_case = pytest.mark.parametrize("case", CASES)


def turned(x):
    """Return the same numbers with the strides of the dimensions in reverse."""
    dimensions = list(range(x.dim()))[::-1]
    return x.permute(dimensions).contiguous().permute(dimensions)


def inputs_of(case, change):
    op, draw, _ = CASES[case]
    torch.manual_seed(0)
    drawn = [change(x.detach()) if isinstance(x, Tensor) else x for x in draw(STEPS, ROWS)]
    for x in drawn:
        if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
            x.requires_grad_()
    return getattr(memsuite.ops, op), drawn


def outputs_of(op, inputs):
    made = op(*inputs)
    made = (made,) if isinstance(made, Tensor) else made
    return [x for x in made if isinstance(x, Tensor) and x.requires_grad]


def looks(made):
    return [(x.shape, x.dtype, x.stride()) for x in ([made] if isinstance(made, Tensor) else made)]


@every_case
@pytest.mark.parametrize("change", [lambda x: x, turned], ids=["in order", "turned"])
def test_the_outputs_are_as_promised(case, change):
    op, inputs = inputs_of(case, change)
    with Calls() as calls:
        outputs = outputs_of(op, inputs)
        torch.autograd.backward(outputs, [change(torch.ones_like(x)) for x in outputs])
    assert calls.found
    for func, args, made in calls.found:
        mode = FakeTensorMode()
        fakes = [mode.from_tensor(x.detach()) if isinstance(x, Tensor) else x for x in args]
        with mode:
            promised = func(*fakes)
        assert looks(made) == looks(promised), func


@every_case
def test_operations_can_be_counted_in_both_directions(case):
    """A mode that sees every call, as a counter does, calls an op with autograd switched off."""
    op, inputs = inputs_of(case, lambda x: x)
    with FlopCounterMode(display=False):
        outputs = outputs_of(op, inputs)
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
    assert inputs[0].grad is not None


@every_case
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # PyTorch's own, as it begins
def test_forward_mode_is_refused(case):
    """It would be a derivative of zero."""
    op, inputs = inputs_of(case, lambda x: x)
    with torch.autograd.forward_ad.dual_level():
        first = torch.autograd.forward_ad.make_dual(inputs[0], torch.ones_like(inputs[0]))
        with pytest.raises(RuntimeError, match="has no forward-mode derivative"):
            op(first, *inputs[1:])
