"""The edited matrix state: its equation, its gradients, its compiled form against the reference, resets, threads."""

import pytest
import torch

from memsuite.ops import delta_scan
from memsuite.ops.scans.delta_scan import CHUNK, delta_step

SHAPES = [(1, 1, 1, 1, 1), (5, 2, 3, 4, 6), (CHUNK + 3, 2, 2, 8, 5), (2 * CHUNK, 1, 2, 5, 17), (3, 2, 1, 16, 32)]
both = pytest.mark.parametrize("erases", [False, True], ids=["decay", "erase"])


def arguments(steps, batch, heads, keys, values, erases, resets=0.2):
    """Draw float64 arguments; the erasure is mild, so that the state stays of about unit size."""
    q, k, erase, address = torch.randn(4, steps, batch, heads, keys, dtype=torch.float64) * keys**-0.5
    v = torch.randn(steps, batch, heads, values, dtype=torch.float64)
    log_decay = -torch.rand(steps, batch, heads, keys, dtype=torch.float64)
    reset = torch.rand(steps, batch) < resets
    s0 = torch.randn(batch, heads, keys, values, dtype=torch.float64)
    return [q, k, v, log_decay, reset, s0, *((erase, address) if erases else (None, None))]


def backward_arguments(inputs, outputs):
    q, k, v, log_decay, reset, _, *also = inputs
    torch.manual_seed(3)
    return [torch.randn_like(outputs[0]), torch.randn_like(outputs[2]), q, k, v, log_decay, reset, outputs[1], *also]


@both
def test_it_is_its_equation(erases):
    q, k, v, log_decay, reset, s, erase, address = arguments(9, 2, 2, 3, 4, erases)
    y, last = delta_scan(q, k, v, log_decay, reset, s, erase, address)
    for t in range(9):
        s = torch.where(reset[t].view(-1, 1, 1, 1), 0, s)
        matrix = torch.diag_embed(log_decay[t].exp())
        if erases:
            matrix = matrix - torch.einsum("bhi,bhj->bhij", erase[t], address[t])
        s = matrix @ s + torch.einsum("bhk,bhv->bhkv", k[t], v[t])
        torch.testing.assert_close(y[t], torch.einsum("bhkv,bhk->bhv", s, q[t]), rtol=0, atol=1e-12)
    torch.testing.assert_close(last, s, rtol=0, atol=1e-12)


@both
def test_steps_are_those_of_the_scan(erases):
    q, k, v, log_decay, _, s, erase, address = arguments(4, 2, 2, 3, 4, erases)
    y, last = delta_scan(q, k, v, log_decay, torch.zeros(4, 2, dtype=torch.bool), s, erase, address)
    for t in range(4):
        also = (erase[t], address[t]) if erases else (None, None)
        one, s = delta_step(q[t], k[t], v[t], log_decay[t], s, *also)
        torch.testing.assert_close(one, y[t], rtol=0, atol=1e-12)
    torch.testing.assert_close(s, last, rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_compiled_equals_the_reference(run, shape, erases, single):
    inputs = arguments(*shape, erases)
    wide = [x if x is None or x.dtype == torch.bool else x.float().double() for x in inputs]
    given = [x if x is None or x.dtype == torch.bool or not single else x.float() for x in wide]
    tolerance = 2e-5 if single else 1e-12
    from memsuite.ops import REFERENCES

    expected, found = REFERENCES["delta_scan"](*wide), run("delta_scan", False)(*given)
    after = backward_arguments(wide, expected)
    kept = [x if x is None or x.dtype == torch.bool or not single else x.float() for x in after]
    expected = [*expected, *REFERENCES["delta_scan_backward"](*after)]
    found = [*found, *run("delta_scan", True)(*kept)]
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one.double() / scale, other / scale, rtol=0, atol=tolerance)


@both
def test_the_gradient_is_that_of_finite_differences_and_the_registration_sound(erases):
    inputs = arguments(5, 2, 2, 3, 4, erases)
    inputs = [x if x is None or x.dtype == torch.bool else x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(delta_scan, inputs)
    torch.library.opcheck(torch.ops.memsuite.delta_scan, tuple(inputs))


@both
def test_a_reset_erases_a_poisoned_state_and_its_gradient(run, erases):
    inputs = arguments(4, 3, 2, 3, 5, erases, resets=0.0)
    inputs[4][0, 1] = True
    inputs[5][1] = float("nan")
    outputs = run("delta_scan", False)(*inputs)
    assert all(outputs[at].isfinite().all() for at in (0, 2))
    assert all(x.isfinite().all() for x in run("delta_scan", True)(*backward_arguments(inputs, outputs)))


@both
def test_threads_change_no_bit(erases):
    inputs = [x if x is None or x.dtype == torch.bool else x.float() for x in arguments(40, 5, 4, 16, 16, erases)]
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outputs = torch.ops.memsuite.delta_scan(*inputs)
            found.append([*outputs, *torch.ops.memsuite.delta_scan_backward(*backward_arguments(inputs, outputs))])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_it_is_the_scan_of_one_decay_for_each_head_where_the_decays_are_equal():
    from memsuite.ops import matrix_scan

    q, k, v, _, reset, s0, *_ = arguments(40, 2, 3, 4, 5, False)
    k = torch.nn.functional.normalize(k, dim=-1)
    log_decay, beta = -torch.rand(40, 2, 3).double(), torch.rand(40, 2, 3).double()
    expected = matrix_scan(q, k, v, log_decay, reset, s0, beta)
    wide, strength = log_decay.unsqueeze(-1).expand_as(k), beta.unsqueeze(-1)
    # In matrix_scan the decay is outside of the erasure, which for one decay is the same.
    found = delta_scan(q, strength * k, v, wide, reset, s0, strength * k, wide.exp() * k)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
