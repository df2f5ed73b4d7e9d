"""Products in bfloat16: what is rounded, what is not, and that nothing of it is left behind."""

from collections.abc import Callable, Iterator

import pytest
import torch
from bfloat16 import needs_bfloat16
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.ops import gated_mlp, gated_out, gru_scan, skip_out, wide_linear, window_attention
from memsuite.ops.build import cpu
from memsuite.ops.fused.gated_out import SILU
from memsuite.ops.products import check_products, products_in

HOST = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def rounded(x: Tensor) -> Tensor:
    """Round to bfloat16 and back."""
    return x.bfloat16().float()


def with_gradients(op: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """Return the output and the gradient of every input, for one gradient of the output."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = op(*leaves)
    flow = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out.detach(), *torch.autograd.grad(out, leaves, flow)]


def close(found: Tensor, wanted: Tensor, most: float) -> bool:
    """Tell whether the difference is small beside the whole."""
    return bool((found - wanted).norm() <= most * wanted.norm())


@needs_bfloat16
@pytest.mark.parametrize("sizes", [(7, 13, 37, 45), (3, 97, 128, 384), (1, 300, 1, 1), (50, 3, 129, 31)])
def test_a_map_multiplies_rounded_factors(sizes: tuple[int, int, int, int]) -> None:
    """The map and both of its gradients are those of rounded factors, to float32; the bias is not rounded."""
    steps, batch, depth, width = sizes
    torch.manual_seed(0)
    x, w, b = torch.randn(steps, batch, depth), torch.randn(width, depth), torch.randn(width)
    with products_in("bfloat16"):
        y, d_x, d_w, d_b = with_gradients(wide_linear, x, w, b)
    flow = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    rows, flows = rounded(x).flatten(0, 1).double(), rounded(flow).flatten(0, 1).double()
    assert close(y, (rows @ rounded(w).T.double() + b).view(y.shape), 1e-6)
    assert close(d_x, (flows @ rounded(w).double()).view(x.shape), 1e-6)
    assert close(d_w, flows.T @ rows, 1e-6)
    assert close(d_b, flow.sum((0, 1)), 1e-6)


MAPS = {
    "gated_mlp": (lambda x, up, down: gated_mlp(x, up, down, 1e-8), [(9, 11, 40), (2 * 56, 40), (40, 56)]),
    "gated_out": (lambda y, gate, w: gated_out(y, gate, w, 1e-8, SILU), [(9, 11, 3, 20), (9, 11, 60), (44, 60)]),
    "skip_out": (skip_out, [(9, 11, 60), (9, 11, 60), (9, 11, 60), (60,), (44, 60)]),
}


@needs_bfloat16
@pytest.mark.parametrize("name", MAPS)
def test_a_fused_map_is_rounded_and_close(name: str) -> None:
    """Output and gradients differ from float32's by the rounding of bfloat16 and not by more."""
    op, shapes = MAPS[name]
    torch.manual_seed(0)
    inputs = [torch.randn(shape) for shape in shapes]
    exact = with_gradients(op, *inputs)
    with products_in("bfloat16"):
        found = with_gradients(op, *inputs)
    for ours, wanted in zip(found, exact, strict=True):
        assert close(ours, wanted, 0.02)
        assert not torch.equal(ours, wanted)


@needs_bfloat16
def test_a_recurrence_stays_in_float32() -> None:
    """States and their gradients through time have the bits of float32; only the gradient of the weights is rounded."""
    torch.manual_seed(0)
    inputs = [torch.randn(20, 5, 3 * 33), torch.randn(5, 33), torch.randn(3 * 33, 33) * 0.2, torch.randn(3 * 33)]
    reset = torch.rand(20, 5) < 0.1

    def op(gi: Tensor, h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return gru_scan(gi, reset, h, w, b)

    exact = with_gradients(op, *inputs)
    with products_in("bfloat16"):
        found = with_gradients(op, *inputs)
    assert [torch.equal(a, b) for a, b in zip(found, exact, strict=True)] == [True, True, True, False, True]
    assert close(found[3], exact[3], 0.02)


@needs_bfloat16
def test_float64_is_not_rounded() -> None:
    """Tensors in float64 have the same bits as ever."""
    torch.manual_seed(0)
    x, w = torch.randn(9, 11, 40).double().requires_grad_(), torch.randn(30, 40).double().requires_grad_()

    def all_of_it() -> list[Tensor]:
        y = wide_linear(x, w)
        return [y, *torch.autograd.grad(y.square().sum(), (x, w))]

    exact = all_of_it()
    with products_in("bfloat16"):
        found = all_of_it()
    assert all(torch.equal(a, b) for a, b in zip(found, exact, strict=True))


@needs_bfloat16
@pytest.mark.parametrize("relative", [False, True])
def test_attention_stays_in_float32(relative: bool) -> None:
    """Scores, weights and all gradients have the bits of float32."""
    torch.manual_seed(0)
    inputs = [torch.randn(40, 3, 2, 16) for _ in range(3)]
    inputs += [torch.randn(40, 3, 2, 16), torch.randn(40, 2, 16)] * relative
    reach = torch.arange(40).unsqueeze(1).expand(40, 3).contiguous()

    def op(q: Tensor, k: Tensor, v: Tensor, *ages: Tensor) -> Tensor:
        return window_attention(q, k, v, reach, None, *ages)

    exact = with_gradients(op, *inputs)
    with products_in("bfloat16"):
        found = with_gradients(op, *inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, exact, strict=True))


@needs_bfloat16
def test_a_lower_instruction_set_stays_in_float32() -> None:
    """There are no such products below AVX-512; nothing is rounded, and one line says so."""
    torch.manual_seed(0)
    inputs, best = [torch.randn(9, 11, 40), torch.randn(30, 40)], torch.ops.memsuite.kernel_level(-1)
    try:
        torch.ops.memsuite.kernel_level(1)
        exact = wide_linear(*inputs)
        with products_in("bfloat16") as held:
            assert not held
            assert torch.equal(wide_linear(*inputs), exact)
        with pytest.raises(UsageError, match=r"needs a processor with AVX-512 BF16, which this one lacks"):
            check_products("bfloat16", HOST)
    finally:
        torch.ops.memsuite.kernel_level(best)


@needs_bfloat16
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.4e38])
def test_what_is_not_finite_stays_so(value: float) -> None:
    """NaN and infinity come out of the rows they went in; what is beyond bfloat16's largest rounds to infinity."""
    x, w = torch.ones(2, 300, 8), torch.ones(4, 8)
    x[1, 7, 3] = value
    with products_in("bfloat16"):
        y = wide_linear(x, w)
    broken = ~y.isfinite().all(-1)
    assert broken.nonzero().tolist() == [[1, 7]]
    assert bool(y[1, 7].isnan().all()) == (value != value)


@needs_bfloat16
def test_the_number_of_threads_changes_no_bit() -> None:
    """One thread and two compute the same, forward and backward."""
    torch.manual_seed(0)
    inputs = [torch.randn(40, 50, 64), torch.randn(96, 64)]
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with products_in("bfloat16"):
            found.append(with_gradients(lambda x, w: wide_linear(x, w), *inputs))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@needs_bfloat16
def test_the_block_ends_with_the_precision_before() -> None:
    """Blocks nest, float32 within bfloat16 too, and an error ends one as anything else does."""

    def now() -> int:
        return int(torch.ops.memsuite.bfloat16_products(-1))

    with products_in("bfloat16"):
        with products_in("float32"):
            assert now() == 0
        assert now() == 1
    assert now() == 0
    with pytest.raises(KeyError), products_in("bfloat16"):
        raise KeyError
    assert now() == 0


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU and without the compiled ops one line says what to do; float32 is always there."""
    with pytest.raises(UsageError, match=r"on a GPU use trainer\.precision bf16-mixed"):
        check_products("bfloat16", torch.device("cuda"))
    monkeypatch.setattr(cpu, "STATUS", cpu.Status(None, "MEMSUITE_KERNELS=off"))
    with pytest.raises(UsageError, match=r"needs the compiled ops \(MEMSUITE_KERNELS=off\)"):
        check_products("bfloat16", HOST)
    check_products("float32", torch.device("cuda"))
