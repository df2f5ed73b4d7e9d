"""The CUDA kernels against the PyTorch references: on a GPU, or emulated on the host.

The emulation is in tests/ops/build/test_cuda_emulated.py.
"""

import os

import pytest
import torch
from differences import worst
from test_kernels import NARROW, OPS, WIDE, arguments, as_tuple, backward_arguments, held, op_of
from torch import Tensor

from memsuite import ops
from memsuite.ops import REFERENCES
from memsuite.ops.build import cuda

EMULATED = os.environ.get("MEMSUITE_EMULATED")  # a library that registers the kernels for the CPU
if EMULATED:
    cuda.register(EMULATED, "CPU")
DEVICE = "cpu" if EMULATED else "cuda"
MISSING = not EMULATED and cuda.STATUS.library is None
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(MISSING, reason=f"no CUDA kernels: {cuda.STATUS.reason}"),
]
SHAPES = [(1, 1, 1), (5, 3, 17), (7, 9, 128), (4, 2, 200), (35, 4, 3), (18, 1, 66)]


@pytest.fixture
def unwritten_is_nan():
    """Fill new memory with what no result contains; what was there before could be zeros by chance."""
    torch.set_deterministic_debug_mode("warn")
    yield
    torch.set_deterministic_debug_mode("default")


def on_device(tensors: list[Tensor], single: bool = False) -> list[Tensor]:
    return [(x.to(NARROW.get(x.dtype, x.dtype)) if single else x).to(DEVICE) for x in tensors]


def call(name: str, inputs: list[Tensor], single: bool = False) -> tuple[Tensor, ...]:
    """Return what the kernels give, on the CPU in double precision."""
    found = as_tuple(getattr(torch.ops.memsuite, name)(*on_device(inputs, single)))
    return tuple(x.cpu().to(WIDE.get(x.dtype, x.dtype)) for x in found)


def both_ways(case: str, inputs: list[Tensor], single: bool) -> list[tuple[Tensor, Tensor]]:
    """Return what the kernels and the reference give, forward and backward; the reference in float64 on the CPU."""
    op = op_of(case)
    if single:  # the same numbers in both precisions
        inputs = [x.to(NARROW.get(x.dtype, x.dtype)).to(x.dtype) for x in inputs]
    expected = as_tuple(REFERENCES[op](*inputs))
    pairs = list(zip(call(op, inputs, single), expected, strict=True))
    after = backward_arguments(case, inputs, tuple(x.to(NARROW[x.dtype]).to(x.dtype) for x in expected))
    backward = as_tuple(REFERENCES[f"{op}_backward"](*after))
    return pairs + list(zip(call(f"{op}_backward", after, single), backward, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", OPS)
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_equals_the_reference(case, shape, single):
    for one, other in both_ways(case, arguments(case, *shape), single):
        assert one.shape == other.shape
        assert worst(one, other) < (1e-5 if single else 1e-12)


@pytest.mark.parametrize("states", [1, 16, 21])
@pytest.mark.parametrize("channels", [5, 130])
def test_any_number_of_states_and_channels(states, channels):
    """More than 16 states take several launches, more than 64 channels several blocks."""
    x, dt, _, _, _, erase, _ = arguments("selective", 19, 2, channels)
    rates, h0 = -torch.randn(channels, states).double().exp(), torch.randn(2, channels, states).double()
    write, read = torch.randn(2, 19, 2, states).double()
    for one, other in both_ways("selective", [x, dt, rates, write, read, erase, h0], single=False):
        assert worst(one, other) < 1e-12


@pytest.mark.parametrize(("channels", "states"), [(0, 5), (4, 0), (0, 0)])
def test_no_states_or_no_channels_give_zeros(channels, states, unwritten_is_nan):
    """The sums over none of them are zeros, which no thread of a state or of a channel is there to write."""
    x, dt, _, _, _, erase, _ = arguments("selective", 19, 2, channels)
    rates, h0 = torch.randn(channels, states).double(), torch.randn(2, channels, states).double()
    write, read = torch.randn(2, 19, 2, states).double()
    inputs = [x, dt, rates, write, read, erase, h0]
    outputs = call("selective_scan", inputs)
    gradients = call("selective_scan_backward", backward_arguments("selective", inputs, outputs))
    expected = [x, inputs[6], *inputs[:5], inputs[6]]
    for one, like in zip([outputs[0], outputs[2], *gradients], expected, strict=True):
        assert torch.equal(one, torch.zeros_like(like))


@pytest.mark.parametrize(
    ("op", "width"), [("gru_scan", 1100), ("lstm_scan", 900), ("slstm_scan", 900), ("elman_scan", 1600)]
)
def test_a_wide_recurrence(op, width):
    """A width at which the states of eight environments do not fit into a block's memory."""
    for one, other in both_ways(op, arguments(op, 2, 2, width), single=False):
        assert worst(one, other) < 1e-12


@pytest.mark.parametrize(("op", "parts"), [("lstm_scan", 1), ("slstm_scan", 2)])
def test_parts_of_the_state_that_nothing_reaches_directly(op, parts):
    """The gradients of the cells and of the normaliser are optional: without them, that of the output alone."""
    inputs = arguments(op, 5, 9, 20)
    outputs = as_tuple(REFERENCES[op](*inputs))
    grad, *given = backward_arguments(op, inputs, outputs)
    nothing, rest = [None] * parts, given[parts:]
    expected = REFERENCES[f"{op}_backward"](grad, *nothing, *rest)
    grad, *rest = on_device([grad, *rest])
    found = getattr(torch.ops.memsuite, f"{op}_backward")(grad, *nothing, *rest)
    for one, other in zip(found, expected, strict=True):
        assert worst(one.cpu(), other) < 1e-12


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_the_gates_of_an_slstm_that_no_exponential_would_survive(single):
    """Gates of hundreds, of which the largest is taken away, and rows that nothing was written to yet.

    A stabiliser of a thousand leaves single precision four digits of the exponents.
    """
    inputs = arguments("slstm_scan", 6, 9, 20)
    inputs[0] = 300 * inputs[0]
    inputs[4][::2] = 0
    inputs[5] = 500 * inputs[5]
    pairs = both_ways("slstm_scan", inputs, single)
    assert all(one.isfinite().all() for one, _ in pairs)
    assert all(worst(one, other) < (1e-3 if single else 1e-12) for one, other in pairs)


@pytest.mark.parametrize("case", OPS)
def test_a_reset_erases_a_poisoned_state_and_its_gradient(case):
    op, inputs = op_of(case), arguments(case, 4, 3, 20, reset=0.0)
    at = next(i for i, x in enumerate(inputs) if x.dtype == torch.bool)
    inputs[at][0, 1] = True
    for x in inputs[at + 1 : at + 1 + {"lstm_scan": 2, "slstm_scan": 4}.get(case, 1)]:
        x[1] = float("nan")
    outputs = call(op, inputs)
    # The selective scan saves the unmodified state before a block; the others return states after steps.
    assert all(x.isfinite().all() for i, x in enumerate(outputs) if (case, i) != ("selective", 1))
    assert all(x.isfinite().all() for x in call(f"{op}_backward", backward_arguments(case, inputs, outputs)))


@pytest.mark.parametrize("op", ["gru_scan", "lstm_scan", "slstm_scan", "elman_scan"])
def test_a_reset_stops_a_gradient_that_is_infinite(op):
    """What is multiplied by a gate of zero would be not a number."""
    inputs = arguments(op, 4, 3, 20, reset=0.0)
    inputs[1][2, 1] = True
    after = backward_arguments(op, inputs, as_tuple(REFERENCES[op](*inputs)))
    after[0][2:, 1] = float("inf")
    found = call(f"{op}_backward", after)
    for one, other in zip(found, REFERENCES[f"{op}_backward"](*after), strict=True):
        assert torch.equal(one.isfinite(), other.isfinite())
    starts = [x for x in found if x.shape == inputs[2].shape]
    assert len(starts) == {"lstm_scan": 2, "slstm_scan": 3}.get(op, 1)
    assert all(x.isfinite().all() for x in [*starts, found[0][:2]])


@pytest.mark.parametrize("case", OPS)
def test_registration_and_gradient(case):
    inputs = [x.requires_grad_(x.dtype != torch.bool) for x in on_device(arguments(case, 3, 2, 2))]
    torch.library.opcheck(getattr(torch.ops.memsuite, op_of(case)), tuple(inputs))
    if case == "slstm_scan":  # as in test_kernels
        inputs[5].requires_grad_(False)
    # The emulation starts a thread of the host for each one of a launch, so it tries one direction in place of every
    # number; every number of the gradients is compared with the reference's above.
    function = held if case == "slstm_scan" else getattr(ops, op_of(case))
    assert torch.autograd.gradcheck(function, inputs, fast_mode=bool(EMULATED))


@pytest.mark.parametrize("case", OPS)
def test_scheduling_changes_no_bit(case):
    inputs = on_device(arguments(case, 20, 9, 70), single=True)
    found = []
    for _ in range(2 if EMULATED else 10):
        outputs = as_tuple(getattr(torch.ops.memsuite, op_of(case))(*inputs))
        torch.manual_seed(1)
        after = backward_arguments(case, inputs, outputs)
        found.append([*outputs, *getattr(torch.ops.memsuite, f"{op_of(case)}_backward")(*after)])
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize("op", ["gru_scan", "lstm_scan", "slstm_scan"])
def test_half_precision_is_computed_in_float32(op):
    inputs = on_device([x.bfloat16() if x.is_floating_point() else x for x in arguments(op, 6, 3, 20)])
    wide = [x.float() if x.is_floating_point() else x for x in inputs]
    run = getattr(torch.ops.memsuite, op)
    for one, other in zip(run(*inputs), run(*wide), strict=True):
        assert one.dtype == torch.bfloat16
        assert torch.equal(one, other.to(torch.bfloat16))


def test_tensors_that_do_not_fit_raise():
    x, reset, h0 = on_device(arguments("pscan", 4, 3, 5))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        torch.ops.memsuite.pscan(x, reset, h0[:2])
    with pytest.raises(RuntimeError, match="one kind of number"):
        torch.ops.memsuite.pscan(x, reset, h0.float())
    if not EMULATED:
        for others in ((x.cpu(), reset, h0), (x, reset.cpu(), h0), (x, reset, h0.cpu())):
            with pytest.raises(RuntimeError, match="must be on one device"):
                torch.ops.memsuite.pscan(*others)


@pytest.mark.skipif(EMULATED is not None, reason="an emulation has no streams")
def test_runs_on_the_current_stream():
    x, reset, h0 = on_device(arguments("pscan", 50, 3, 5))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(x)
        torch.cuda._sleep(10_000_000)
        late.copy_(x)
        found = torch.ops.memsuite.pscan(late, reset, h0)
    stream.synchronize()
    assert torch.equal(found, torch.ops.memsuite.pscan(x, reset, h0))
