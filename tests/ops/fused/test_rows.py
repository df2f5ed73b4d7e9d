"""Maps of rows with a fused operation before or after: against PyTorch's own layers, compiled and not."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu, linear, rms_norm, sigmoid, silu, softplus

from memsuite.ops.build import cpu
from memsuite.ops.schema import worth_fusing

CASES = ["gated_mlp", "rms_norm", "gated_out none", "gated_out silu", "gated_out sigmoid", "skip_out none"]
CASES += ["skip_out norm", "wide_linear plain", "wide_linear softplus", "wide_linear elu_plus_one"]
# Rows, width, heads: more than one block of rows, sizes of one, sizes next to whole vectors, no rows.
SHAPES = [((1,), 1, 1), ((3, 2), 128, 4), ((11, 101), 12, 3), ((2, 3, 4), 66, 2), ((1200, 2), 8, 1), ((0, 2), 8, 1)]
EPS = 1e-3
KINDS = ("plain", "softplus", "elu_plus_one")
cases = pytest.mark.parametrize("case", CASES)
compiled = pytest.mark.skipif(cpu.STATUS.library is None, reason=f"no compiled ops: {cpu.STATUS.reason}")


def _compiled(op: str, backward: bool):
    return getattr(torch.ops.memsuite, f"{op}_backward" if backward else op)


def arguments(case: str, rows: tuple[int, ...], width: int, heads: int, dtype=torch.float64) -> list:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    op, _, kind = case.partition(" ")
    if op == "gated_mlp":
        return [draw(*rows, width), draw(2 * (width + 1), width), draw(width, width + 1), EPS]
    if op == "rms_norm":
        return [draw(*rows, width), draw(width), EPS]
    if op == "skip_out":
        y, u, z = (draw(*rows, width) for _ in range(3))
        return [y, u, z, draw(width), draw(width + 3, width), EPS if kind == "norm" else None]
    if op == "wide_linear":
        return [draw(*rows, width), draw(width + 35, width), draw(width + 35), KINDS.index(kind)]
    y = draw(*rows, heads, width // heads)
    gate = draw(0) if kind == "none" else draw(*y.shape)
    return [y, gate, draw(width + 3, width), EPS, ("none", "silu", "sigmoid").index(kind)]


def expected_of(case: str, given: list) -> Tensor:
    """Return the output of PyTorch's own functions."""
    op, _, kind = case.partition(" ")
    if op == "gated_mlp":
        gate, top = linear(rms_norm(given[0], given[0].shape[-1:], eps=EPS), given[1]).chunk(2, dim=-1)
        return given[0] + linear(silu(gate) * top, given[2])
    if op == "rms_norm":
        return rms_norm(given[0], given[0].shape[-1:], given[1], eps=EPS)
    if op == "skip_out":
        made = (given[0] + given[3] * given[1]) * silu(given[2])
        return linear(made if given[5] is None else rms_norm(made, made.shape[-1:], eps=EPS), given[4])
    if op == "wide_linear":
        made = linear(*given[:3])
        return {"plain": made, "softplus": softplus(made), "elu_plus_one": elu(made) + 1}[kind]
    made = rms_norm(given[0], given[0].shape[-1:], eps=EPS)
    made = made if kind == "none" else made * {"silu": silu, "sigmoid": sigmoid}[kind](given[1])
    return linear(made.flatten(-2), given[2])


def tensors(given: list) -> list[Tensor]:
    return [x for x in given if isinstance(x, Tensor)]


def cast(given: list, dtype: torch.dtype) -> list:
    return [x.to(dtype) if isinstance(x, Tensor) else x for x in given]


def backward_arguments(case: str, grad: Tensor, given: list, found) -> list:
    op = case.split()[0]
    if op == "gated_mlp":
        return [grad, *given[:3], *found[1:]]
    if op == "rms_norm":
        return [grad, *given[:2], found[1]]
    if op == "wide_linear":
        return [grad, *given[:2], found, given[3]]
    return [grad, *given]


def both(case: str, given: list, grad: Tensor, run) -> list[Tensor]:
    """Return the output and every gradient, directly from the op and its backward."""
    op = case.split()[0]
    found = run(op, False)(*given)
    gradients = run(op, True)(*backward_arguments(case, grad, given, found))
    return [found if isinstance(found, Tensor) else found[0], *gradients]


def worst(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest number."""
    assert one.shape == other.shape
    return float((one.double() - other).abs().max() / other.abs().max().clamp(min=1e-2)) if other.numel() else 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("blank", [0.0, 0.9], ids=["dense", "sparse"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@cases
def test_equals_pytorch_forward_and_backward(case, shape, blank, dtype, run):
    torch.manual_seed(0)
    wide = cast(cast(arguments(case, *shape), dtype), torch.float64)
    for x in tensors(wide):
        x.requires_grad_()
    expected = expected_of(case, wide)
    grad = torch.randn_like(expected) * (torch.rand(*expected.shape[:-1], 1) >= blank)
    gradients = torch.autograd.grad(expected, tensors(wide), grad, allow_unused=True)
    found = both(case, cast([x.detach() if isinstance(x, Tensor) else x for x in wide], dtype), grad.to(dtype), run)
    for one, other in zip(found, [expected.detach(), *gradients], strict=False):
        if other is not None:
            assert worst(one, other) < (1e-12 if dtype == torch.float64 else 2e-5)


@cases
def test_registration_and_gradient(case):
    torch.manual_seed(0)
    op = getattr(torch.ops.memsuite, case.split()[0]).default
    given = arguments(case, (3, 2), 6, 2)
    for x in tensors(given):
        x.requires_grad_()
    torch.library.opcheck(op, given)

    def answer(*leaves):
        found = op(*leaves)
        return found if isinstance(found, Tensor) else found[0]

    torch.autograd.gradcheck(answer, given)


@cases
def test_single_precision_is_within_rounding_of_double(case, run):
    torch.manual_seed(0)
    given = cast(arguments(case, (40, 2), 128, 4), torch.float32)
    wide = cast(given, torch.float64)
    grad = torch.randn_like(expected_of(case, given))
    pairs = zip(both(case, given, grad, run), both(case, wide, grad.double(), run), strict=True)
    assert max(worst(one, other) for one, other in pairs) < 2e-6


@compiled
@cases
def test_threads_change_no_bit(case):
    torch.manual_seed(0)
    given = arguments(case, (1700, 2), 64, 2, torch.float32)
    grad = torch.randn_like(expected_of(case, given))
    grad[torch.rand(1700) < 0.4] = 0
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(both(case, given, grad, _compiled))
    finally:
        torch.set_num_threads(threads)
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


@cases
def test_what_is_not_finite_is_not_hidden(case, run):
    given = arguments(case, (200, 1), 8, 2)
    grad = torch.zeros_like(expected_of(case, given))
    grad[7] = float("nan")
    d_x = both(case, given, grad, run)[1]
    assert d_x[7].isnan().any()
    assert not d_x[:7].any()
    assert not d_x[8:].any()
    given[0][9] = float("inf")
    out = both(case, given, grad, run)[0]
    assert not out[9].isfinite().all()
    assert out[10:].isfinite().all()
    assert out[:9].isfinite().all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
@cases
def test_half_precision_is_computed_in_float32(case, half):
    given = cast(arguments(case, (5, 2), 8, 2), half)
    found = getattr(torch.ops.memsuite, case.split()[0])(*given)
    found = found if isinstance(found, Tensor) else found[0]
    assert found.dtype == half
    torch.testing.assert_close(found.float(), expected_of(case, cast(given, torch.float32)), rtol=0.02, atol=0.1)


@cases
def test_autocast_leaves_it_to_pytorch(case):
    """Under autocast the public functions are PyTorch's own; the ops themselves still compute in full precision."""
    given = cast(arguments(case, (5, 2), 8, 2), torch.float32)
    op = getattr(torch.ops.memsuite, case.split()[0])
    plain = op(*given)
    with torch.autocast("cpu", torch.bfloat16):
        inside = op(*given)
        assert not worth_fusing(given[0])
    assert torch.equal(*(x if isinstance(x, Tensor) else x[0] for x in (plain, inside)))


@cases
def test_shapes_that_do_not_fit_raise(case):
    given = arguments(case, (5, 2), 8, 2)
    given[1 if case == "rms_norm" else 2] = torch.zeros(5, 5, dtype=torch.float64)
    with pytest.raises(RuntimeError):
        getattr(torch.ops.memsuite, case.split()[0])(*given)
