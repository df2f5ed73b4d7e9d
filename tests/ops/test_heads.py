"""The maps into and out of a recurrence and the policy's distribution: against PyTorch, compiled and not."""

import importlib

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from memsuite.ops import _build, categorical, narrow_linear, normed_linear

LEVELS = {"reference": -1, "base": 0, "avx2": 1, "avx512": 2}
CASES = ["narrow_linear", "normed_linear", "categorical"]
# Rows, the narrow side, the wide side; more rows than a block, more outputs than a vector, and sizes of one.
SHAPES = [((1,), 1, 1), ((3, 2), 9, 128), ((40, 33), 5, 33), ((7, 300), 17, 20), ((2, 3, 4), 70, 3)]


@pytest.fixture(params=LEVELS)
def run(request, monkeypatch):
    """Give the functions that run an op and its backward: the reference, or the compiled one at one instruction set."""
    if request.param == "reference":
        yield lambda op, backward: lambda *given: _reference(op, backward)(*given)
        return
    if _build.STATUS.library is None:
        pytest.skip(f"no compiled ops: {_build.STATUS.reason}")
    best = torch.ops.memsuite.kernel_level(-1)
    if torch.ops.memsuite.kernel_level(LEVELS[request.param]) != LEVELS[request.param]:
        pytest.skip(f"this processor has no {request.param}")
    yield lambda op, backward: getattr(torch.ops.memsuite, f"{op}_backward" if backward else op)
    torch.ops.memsuite.kernel_level(best)


def _reference(op: str, backward: bool):
    module = importlib.import_module(f"memsuite.ops.{op}")
    return module._backward if backward else module._forward


def arguments(case: str, rows: tuple[int, ...], narrow: int, wide: int, dtype=torch.float64) -> list[Tensor | float]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    if case == "narrow_linear":
        return [draw(*rows, narrow), draw(wide, narrow), draw(wide)]
    if case == "normed_linear":
        return [draw(*rows, wide), draw(narrow, wide), 1e-3]
    return [5 * draw(*rows, narrow), torch.randint(narrow, rows)]


def expected_of(case: str, given: list):
    """Return the outputs as PyTorch's own layers make them."""
    if case == "narrow_linear":
        return (functional.linear(*given),)
    if case == "normed_linear":
        x, weight, eps = given
        return (functional.linear(functional.rms_norm(x, x.shape[-1:], eps=eps), weight),)
    distribution = torch.distributions.Categorical(logits=given[0])
    return distribution.log_prob(given[1]), distribution.entropy()


def gradients(outputs, cotangents, given):
    leaves = [x for x in given if isinstance(x, Tensor) and x.is_floating_point()]
    return torch.autograd.grad(outputs, leaves, cotangents)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch_forward_and_backward(case, shape, dtype, run):
    wide = arguments(case, *shape)
    wide = [x.to(dtype).double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in wide]
    for x in wide:
        if isinstance(x, Tensor) and x.is_floating_point():
            x.requires_grad_()
    expected = expected_of(case, wide)
    cotangents = [torch.randn_like(x).to(dtype).double() for x in expected]
    slopes = gradients(expected, cotangents, wide)
    given = [x.detach().to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in wide]
    found = run(case, False)(*given)
    found = (found,) if isinstance(found, Tensor) else found
    narrow = [x.to(dtype) for x in cotangents]
    backward = run(case, True)
    if case == "narrow_linear":
        gave, slopes = backward(narrow[0], given[0]), slopes[1:]
    elif case == "normed_linear":
        gave = backward(narrow[0], given[0], given[1], *found[1:])
    else:
        gave = (backward(*narrow, *given, *found[1:]),)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for one, other in [*zip(found, expected, strict=False), *zip(gave, slopes, strict=True)]:
        assert one.shape == other.shape
        assert (
            float((one.double() - other).detach().abs().max() / other.detach().abs().max().clamp(min=1e-2)) < tolerance
        )


@pytest.mark.parametrize("case", CASES)
def test_registration_and_gradient(case):
    given = arguments(case, (3, 2), 4, 5)
    given = [x.requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in given]
    torch.library.opcheck(getattr(torch.ops.memsuite, case), tuple(given))
    function = {"narrow_linear": narrow_linear, "normed_linear": normed_linear, "categorical": categorical}[case]
    assert torch.autograd.gradcheck(function, given)


@pytest.mark.skipif(_build.STATUS.library is None, reason=f"no compiled ops: {_build.STATUS.reason}")
@pytest.mark.parametrize("case", CASES)
def test_threads_change_no_bit(case):
    given = arguments(case, (90, 37), 9, 48, torch.float32)
    given = [x.requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in given]
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outputs = getattr(torch.ops.memsuite, case)(*given)
            outputs = (
                (outputs,) if isinstance(outputs, Tensor) else outputs[:2] if case == "categorical" else outputs[:1]
            )
            found.append([*outputs, *gradients(outputs, [torch.ones_like(x) for x in outputs], given)])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_a_certain_policy_has_no_entropy_and_finite_gradients(run):
    logits = torch.tensor([[90.0, 0.0, -90.0], [-3e4, 3e4, 0.0]])
    log_prob, entropy, log_sum = run("categorical", False)(logits, torch.tensor([0, 2]))
    torch.testing.assert_close(log_prob, torch.tensor([0.0, -3e4]))
    assert (entropy.abs() < 1e-6).all()
    ones = torch.ones(2)
    slope = run("categorical", True)(ones, ones, logits, torch.tensor([0, 2]), entropy, log_sum)
    torch.testing.assert_close(slope, torch.tensor([[0.0, 0.0, 0.0], [0.0, -1.0, 1.0]]), atol=1e-6, rtol=0)


def test_what_is_not_finite_is_not_hidden(run):
    logits = torch.zeros(20, 3)
    logits[4, 1], logits[5, 0] = float("nan"), float("inf")
    found = run("categorical", False)(logits, torch.zeros(20, dtype=torch.int64))
    bad = ~(found[0].isfinite() & found[1].isfinite())
    assert bad.nonzero().flatten().tolist() == [4, 5]


@pytest.mark.parametrize("action", [-1, 3])
def test_an_action_that_is_none_is_refused(action):
    with pytest.raises(RuntimeError, match=r"out of (range|bounds)"):
        categorical(torch.zeros(2, 3), torch.tensor([0, action]))


def test_a_wide_or_single_step_goes_to_pytorch():
    x, weight = torch.randn(5, 2, 40), torch.randn(3, 40)
    assert torch.equal(narrow_linear(x, weight), functional.linear(x, weight))
    assert torch.equal(narrow_linear(x[0, :, :4], weight[:, :4]), functional.linear(x[0, :, :4], weight[:, :4]))
