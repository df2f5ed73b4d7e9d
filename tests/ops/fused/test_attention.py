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
kinds = pytest.mark.parametrize(
    ("biased", "by_age"), [(False, False), (True, False), (False, True), (True, True)], ids=lambda given: str(given)[0]
)
windows = pytest.mark.parametrize("window", ["everything", "itself", "some", "drawn"])


def arguments(shape, window="drawn", kind=torch.float64, biased=False, by_age=False):
    """Draw queries, keys, values, the ages of the oldest keys that are seen; and a bias, queries and keys by age."""
    steps, keys, batch, heads, size = shape
    most = (torch.arange(steps) + keys - steps).unsqueeze(1).expand(steps, batch)
    drawn = (torch.rand(steps, batch) * (most + 1)).long()
    age = {"everything": most, "itself": torch.zeros_like(most), "some": most.clamp(max=7), "drawn": drawn}[window]
    q, k, v = (torch.randn(length, batch, heads, size, dtype=kind) for length in (steps, keys, keys))
    bias = torch.randn(keys, batch, heads, dtype=torch.float64) if biased else None
    spare = 3  # more ages than any query sees
    relative = [torch.randn(steps, batch, heads, size, dtype=kind), torch.randn(keys + spare, heads, size, dtype=kind)]
    return [q, k, v, age.contiguous(), bias, *(relative if by_age else [None, None])]


def dense(q, k, v, bias, age, relative_q=None, relative_k=None):
    """Attend with the whole matrix of scores."""
    newest = torch.arange(len(q)).unsqueeze(1) + len(k) - len(q)
    key = torch.arange(len(k))
    seen = (key <= newest.unsqueeze(-1)) & (key >= (newest - age).unsqueeze(-1))  # [T, B, S]
    scores = torch.einsum("tbhf,sbhf->tbhs", q, k)
    if relative_q is not None:
        scores = scores + torch.einsum("tbhf,tshf->tbhs", relative_q, relative_k[(newest - key).clamp(min=0)])
    scores = scores / q.shape[-1] ** 0.5
    if bias is not None:
        scores = scores + bias.permute(1, 2, 0)
    weights = scores.masked_fill(~seen.unsqueeze(2), -torch.inf).softmax(-1)
    return torch.einsum("tbhs,sbhf->tbhf", weights, v)


@shapes
@windows
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
@kinds
def test_attention_is_its_formula(shape, window, kind, biased, by_age, run):
    torch.manual_seed(0)
    given = arguments(shape, window, kind, biased, by_age)
    wide = [None if x is None else x.double().requires_grad_() for x in (*given[:3], *given[4:])]
    q, k, v, bias, *relative = wide
    expected = dense(q, k, v, bias, given[3], *relative)
    grad = torch.randn_like(expected)
    saved = run("window_attention", False)(*given)
    found = list(run("window_attention", True)(grad.to(kind), *given, *saved))
    found[5] = found[5].sum(0)  # that of each row of the batch
    leaves = [at for at, x in enumerate(wide) if x is not None]
    expected_grads = torch.autograd.grad(expected, [wide[at] for at in leaves], grad)
    tolerance = 1e-12 if kind == torch.float64 else 3e-5
    torch.testing.assert_close(saved[0].double(), expected.detach(), rtol=0, atol=tolerance)
    for at, other in zip(leaves, expected_grads, strict=True):
        torch.testing.assert_close(found[at].double(), other, rtol=0, atol=tolerance)


@compiled
def test_threads_change_no_bit():
    given, found = arguments((140, 150, 3, 5, 32), kind=torch.float32, biased=True, by_age=True), []
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
    q, k, v, age, *rest = arguments((40, 60, 1, 2, 8), "everything", torch.float32)
    q, k = 300 * q, 300 * k  # scores far beyond the largest exponent of float32
    y, _ = run("window_attention", False)(q, k, v, age, *rest)
    assert worst(y.double(), dense(q.double(), k.double(), v.double(), None, age)) < 1e-4


def test_a_bias_that_was_summed_over_a_long_past_keeps_its_digits(run):
    """Only differences between keys count: a million added to all of them changes nothing, in float32 as well."""
    *given, bias, _, _ = arguments((60, 90, 2, 2, 8), "some", torch.float32, biased=True)
    grad = torch.randn_like(given[0])
    made = []
    for shift in (0.0, 1e6):
        shifted = [*given, bias + shift, None, None]
        saved = run("window_attention", False)(*shifted)
        made.append([saved[0], *run("window_attention", True)(grad, *shifted, *saved)])
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_what_is_not_seen_does_not_matter(run):
    """Neither the numbers of an earlier episode nor those of later steps reach a step."""
    q, k, v, age, bias, *relative = arguments((60, 60, 1, 2, 8), "some", biased=True, by_age=True)
    y, _ = run("window_attention", False)(q, k, v, age, bias, *relative)
    k[:20], v[40:], bias[:20], relative[1][8:] = 100 * k[:20], 100 * v[40:], torch.nan, torch.nan
    again, _ = run("window_attention", False)(q, k, v, age, bias, *relative)
    torch.testing.assert_close(again[30:40], y[30:40], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
@kinds
def test_registration_and_gradient(shape, biased, by_age):
    q, k, v, age, *rest = arguments(shape, biased=biased, by_age=by_age)
    leaves = [x.requires_grad_() for x in (q, k, v, *rest) if x is not None]
    torch.library.opcheck(torch.ops.memsuite.window_attention, [q, k, v, age, *rest])

    def attend(q, k, v, *others):
        return window_attention(q, k, v, age, others[0] if biased else None, *(others[-2:] if by_age else []))

    assert torch.autograd.gradcheck(attend, leaves)


@compiled
def test_ages_beyond_the_first_key_raise():
    q, k, v, age, _, *relative = arguments((4, 6, 2, 1, 2), "everything", by_age=True)
    with pytest.raises(RuntimeError, match="beyond relative_k"):
        window_attention(q, k, v, age, None, relative[0], relative[1][:5])
    for wrong in (age.new_full(age.shape, 3), age.new_full(age.shape, -1)):
        with pytest.raises(RuntimeError, match="age"):
            window_attention(q, k, v, wrong)
    with pytest.raises(RuntimeError, match="fewer keys"):
        window_attention(k, q, q, age.new_zeros(6, 2))


@pytest.mark.parametrize("rows", [(1,), (3, 2), (70, 19), (0, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 2), (4, 32), (3, 10)], ids=str)
@pytest.mark.parametrize("more", [0, 1, 32], ids=["turned whole", "one more", "a vector more"])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
def test_rotation_is_a_product_of_complex_numbers(rows, size, more, kind, run):
    x = torch.randn(*rows, size[0], size[1] + more, dtype=kind)
    angle = torch.randn(*rows, size[1] // 2, dtype=kind)
    a, b = x[..., : size[1]].double().chunk(2, dim=-1)
    turned = torch.complex(a, b) * torch.polar(torch.ones_like(angle), angle).to(torch.complex128).unsqueeze(-2)
    found = run("rotary", False)(x, angle.cos(), angle.sin())
    expected = torch.cat([turned.real, turned.imag, x[..., size[1] :]], dim=-1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-12 if kind == torch.float64 else 1e-5)


@pytest.mark.parametrize("more", [0, 3])
def test_rotation_is_registered_and_differentiated(more):
    x = torch.randn(3, 2, 2, 6 + more, dtype=torch.float64, requires_grad=True)
    angle = torch.randn(3, 2, 3).double()
    torch.library.opcheck(torch.ops.memsuite.rotary, [x, angle.cos(), angle.sin()])
    assert torch.autograd.gradcheck(lambda given: rotary(given, angle.cos(), angle.sin()), [x])
    learnt = angle.clone().requires_grad_()  # as in Mamba-3, whose angles come from the input
    assert torch.autograd.gradcheck(lambda given, at: rotary(given, at.cos(), at.sin()), [x, learnt])


def test_rotation_needs_two_channels_an_angle():
    angle = torch.randn(4, 3)
    with pytest.raises(RuntimeError, match="W at least 2 F"):
        torch.ops.memsuite.rotary(torch.randn(4, 2, 5), angle.cos(), angle.sin())
