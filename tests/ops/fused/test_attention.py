"""Rotation by position and attention to a window, against dense formulas; the compiled ops against the references."""

import pytest
import torch
from differences import worst

from memsuite.ops import rotary, window_attention
from memsuite.ops.build import cpu

# Steps, keys, environments, heads, size of a head: one step, keys before the steps, more than one block of queries and
# of keys, sizes that do not fill a vector.
SHAPES = [(1, 1, 1, 1, 1), (5, 9, 2, 2, 6), (140, 140, 2, 2, 32), (60, 230, 1, 3, 40), (3, 40, 3, 1, 17)]
compiled = pytest.mark.skipif(cpu.STATUS.library is None, reason=f"no compiled ops: {cpu.STATUS.reason}")
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
windows = pytest.mark.parametrize("window", ["everything", "itself", "some", "drawn"])


def arguments(shape, window="drawn", kind=torch.float64, biased=False):
    """Draw queries, keys, values, the ages of the oldest keys that are seen, and a bias for each key or none."""
    steps, keys, batch, heads, size = shape
    most = (torch.arange(steps) + keys - steps).unsqueeze(1).expand(steps, batch)
    drawn = (torch.rand(steps, batch) * (most + 1)).long()
    age = {"everything": most, "itself": torch.zeros_like(most), "some": most.clamp(max=7), "drawn": drawn}[window]
    q, k, v = (torch.randn(length, batch, heads, size, dtype=kind) for length in (steps, keys, keys))
    bias = torch.randn(keys, batch, heads, dtype=torch.float64) if biased else None
    return [q, k, v, age.contiguous(), bias]


def dense(q, k, v, bias, age):
    """Attend with the whole matrix of scores."""
    newest = torch.arange(len(q)).unsqueeze(1) + len(k) - len(q)
    key = torch.arange(len(k))
    seen = (key <= newest.unsqueeze(-1)) & (key >= (newest - age).unsqueeze(-1))  # [T, B, S]
    scores = torch.einsum("tbhf,sbhf->tbhs", q, k) / q.shape[-1] ** 0.5
    if bias is not None:
        scores = scores + bias.permute(1, 2, 0)
    weights = scores.masked_fill(~seen.unsqueeze(2), -torch.inf).softmax(-1)
    return torch.einsum("tbhs,sbhf->tbhf", weights, v)


@shapes
@windows
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_attention_is_its_formula(shape, window, kind, biased, run):
    torch.manual_seed(0)
    *given, bias = arguments(shape, window, kind, biased)
    wide = [x.double().requires_grad_() for x in ([*given[:3], bias] if biased else given[:3])]
    expected = dense(*wide[:3], *(wide[3:] or [None]), given[3])
    grad = torch.randn_like(expected)
    y, total = run("window_attention", False)(*given, bias)
    found = run("window_attention", True)(grad.to(kind), *given, bias, y, total)
    others = [expected.detach(), *torch.autograd.grad(expected, wide, grad)]
    found = found if biased else found[:3]
    for one, other in zip([y, *found], others, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-12 if kind == torch.float64 else 2e-5)


@compiled
def test_threads_change_no_bit():
    given, found = arguments((140, 150, 3, 5, 32), kind=torch.float32, biased=True), []
    grad = torch.randn_like(given[0])
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            saved = torch.ops.memsuite.window_attention(*given)
            found.append([*saved, *torch.ops.memsuite.window_attention_backward(grad, *given, *saved)])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_large_scores_do_not_overflow(run):
    q, k, v, age, bias = arguments((40, 60, 1, 2, 8), "everything", torch.float32)
    q, k = 300 * q, 300 * k  # scores far beyond the largest exponent of float32
    y, _ = run("window_attention", False)(q, k, v, age, bias)
    assert worst(y.double(), dense(q.double(), k.double(), v.double(), bias, age)) < 1e-4


def test_a_bias_that_was_summed_over_a_long_past_keeps_its_digits(run):
    """Only differences between keys count: a million added to all of them changes nothing, in float32 as well."""
    *given, bias = arguments((60, 90, 2, 2, 8), "some", torch.float32, biased=True)
    grad = torch.randn_like(given[0])
    made = []
    for shift in (0.0, 1e6):
        y, total = run("window_attention", False)(*given, bias + shift)
        made.append([y, *run("window_attention", True)(grad, *given, bias + shift, y, total)])
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_what_is_not_seen_does_not_matter(run):
    """Neither the numbers of an earlier episode nor those of later steps reach a step."""
    q, k, v, age, bias = arguments((60, 60, 1, 2, 8), "some", biased=True)
    y, _ = run("window_attention", False)(q, k, v, age, bias)
    k[:20], v[40:], bias[:20] = 100 * k[:20], 100 * v[40:], torch.nan
    again, _ = run("window_attention", False)(q, k, v, age, bias)
    torch.testing.assert_close(again[30:40], y[30:40], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_registration_and_gradient(shape, biased):
    q, k, v, age, bias = arguments(shape, biased=biased)
    leaves = [x.requires_grad_() for x in ((q, k, v, bias) if biased else (q, k, v))]
    torch.library.opcheck(torch.ops.memsuite.window_attention, [q, k, v, age, bias])
    assert torch.autograd.gradcheck(lambda *x: window_attention(*x[:3], age, *x[3:]), leaves)


@compiled
def test_ages_beyond_the_first_key_raise():
    q, k, v, age, _ = arguments((4, 6, 2, 1, 2))
    for wrong in (age.new_full(age.shape, 3), age.new_full(age.shape, -1)):
        with pytest.raises(RuntimeError, match="age"):
            window_attention(q, k, v, wrong)
    with pytest.raises(RuntimeError, match="fewer keys"):
        window_attention(k, q, q, age.new_zeros(6, 2))


@pytest.mark.parametrize("rows", [(1,), (3, 2), (70, 19), (0, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 2), (4, 32), (3, 10)], ids=str)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
def test_rotation_is_a_product_of_complex_numbers(rows, size, kind, run):
    x = torch.randn(*rows, *size, dtype=kind)
    angle = torch.randn(*rows, size[1] // 2, dtype=kind)
    a, b = x.double().chunk(2, dim=-1)
    turned = torch.complex(a, b) * torch.polar(torch.ones_like(angle), angle).to(torch.complex128).unsqueeze(-2)
    found = run("rotary", False)(x, angle.cos(), angle.sin())
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-12 if kind == torch.float64 else 1e-5)


def test_rotation_is_registered_and_differentiated():
    x, angle = torch.randn(3, 2, 2, 6, dtype=torch.float64, requires_grad=True), torch.randn(3, 2, 3).double()
    torch.library.opcheck(torch.ops.memsuite.rotary, [x, angle.cos(), angle.sin()])
    assert torch.autograd.gradcheck(lambda given: rotary(given, angle.cos(), angle.sin()), [x])
