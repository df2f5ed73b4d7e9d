"""The five laws of controllers, for every registered one, in float32 and float64, from a noise-filled state."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from memsuite.controllers import CONTROLLERS, Controller, make_controller
from memsuite.controllers.base import map_state

INPUT, HIDDEN = 5, 8
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}
both_dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
every_controller = pytest.mark.parametrize("name", CONTROLLERS)
horizons = pytest.mark.parametrize("horizon", [None, 50], ids=["default", "horizon_aware"])


def build(name: str, dtype: torch.dtype = torch.float64, horizon: int | None = None) -> Controller:
    return make_controller(name, input_dim=INPUT, hidden_dim=HIDDEN, memory_horizon=horizon).to(dtype)


def noise_state(controller: Controller, batch: int):
    return map_state(
        lambda leaf: torch.randn_like(leaf) if leaf.is_floating_point() else leaf, controller.init_state(batch)
    )


def leaves(state):
    return pytree.tree_leaves(state)


def run_and_differentiate(controller, run, x, state):
    """Return features, state and every gradient: of the input, of the incoming state, of the parameters."""
    x = x.clone().requires_grad_()
    state = map_state(lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), state)
    features, after = run(x, state)
    torch.manual_seed(1)
    outputs = [features, *(leaf for leaf in leaves(after) if leaf.is_floating_point())]
    loss = sum((out * torch.randn_like(out)).sum() for out in outputs)
    inputs = [x, *(leaf for leaf in leaves(state) if leaf.requires_grad), *controller.parameters()]
    grads = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    return [*outputs, *grads]


def assert_same(ones, others, dtype):
    for one, other in zip(ones, others, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=TOLERANCE[dtype])


@st.composite
def sequences(draw):
    """Draw a length, a batch, a seed and the probability of a reset."""
    return (
        draw(st.integers(1, 12)),
        draw(st.integers(1, 4)),
        draw(st.integers(0, 10**6)),
        draw(st.sampled_from([0, 0.3, 1])),
    )


def make_sequence(case, dtype):
    steps, batch, seed, probability = case
    torch.manual_seed(seed)
    return torch.randn(steps, batch, INPUT, dtype=dtype), torch.rand(steps, batch) < probability


@every_controller
@both_dtypes
@horizons
@given(case=sequences())
def test_law_1_sequence_equals_loop_of_steps(name, dtype, horizon, case):
    x, is_first = make_sequence(case, dtype)
    controller = build(name, dtype, horizon)
    state = noise_state(controller, x.shape[1])
    whole = run_and_differentiate(controller, lambda x, s: controller.forward_sequence(x, s, is_first), x, state)
    loop = run_and_differentiate(
        controller, lambda x, s: Controller.forward_sequence(controller, x, s, is_first), x, state
    )
    assert_same(whole, loop, dtype)


@every_controller
@both_dtypes
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 10**6))
def test_law_2_packed_episodes_equal_episodes_apart(name, dtype, lengths, seed):
    torch.manual_seed(seed)
    controller = build(name, dtype)
    episodes = [torch.randn(length, 1, INPUT, dtype=dtype) for length in lengths]
    is_first = torch.cat([torch.arange(length).unsqueeze(1) == 0 for length in lengths])
    packed, last = controller.forward_sequence(torch.cat(episodes), noise_state(controller, 1), is_first)
    apart = [
        controller.forward_sequence(e, controller.init_state(1), torch.zeros(len(e), 1, dtype=torch.bool))
        for e in episodes
    ]
    assert_same([packed, *leaves(last)], [torch.cat([f for f, _ in apart]), *leaves(apart[-1][1])], dtype)


@every_controller
@both_dtypes
@given(case=sequences(), cut=st.integers(1, 11))
def test_law_3_cut_anywhere_and_carried_equals_the_whole(name, dtype, case, cut):
    x, is_first = make_sequence(case, dtype)
    controller = build(name, dtype)

    def in_two(x, state):
        parts = [(x[:cut], is_first[:cut]), (x[cut:], is_first[cut:])]
        features = []
        for part, first in parts:
            if len(part):
                feature, state = controller.forward_sequence(part, state, first)
                features.append(feature)
        return torch.cat(features), state

    state = noise_state(controller, x.shape[1])
    whole = run_and_differentiate(controller, lambda x, s: controller.forward_sequence(x, s, is_first), x, state)
    assert_same(run_and_differentiate(controller, in_two, x, state), whole, dtype)


@every_controller
@given(case=sequences(), at=st.integers(0, 11))
def test_law_4_future_inputs_never_change_past_outputs(name, case, at):
    x, is_first = make_sequence(case, torch.float64)
    at = min(at, len(x) - 1)
    controller = build(name)
    state = noise_state(controller, x.shape[1])
    changed = x.clone()
    changed[at:] += 1
    one, _ = controller.forward_sequence(x, state, is_first)
    other, _ = controller.forward_sequence(changed, state, is_first)
    torch.testing.assert_close(one[:at], other[:at], rtol=0, atol=0)
    assert not torch.equal(one[at], other[at])


@every_controller
@pytest.mark.parametrize("poison", [1e3, float("inf"), float("nan")])
def test_law_4_nothing_of_the_past_remains_after_a_reset(name, poison):
    controller = build(name)
    x = torch.randn(6, 2, INPUT, dtype=torch.float64)
    is_first = torch.zeros(6, 2, dtype=torch.bool)
    is_first[0] = True
    clean, state = controller.forward_sequence(x, controller.init_state(2), is_first)
    poisoned = map_state(
        lambda leaf: torch.full_like(leaf, poison) if leaf.is_floating_point() else leaf, controller.init_state(2)
    )
    dirty, dirty_state = controller.forward_sequence(x, poisoned, is_first)
    assert torch.equal(clean, dirty)
    assert all(torch.equal(a, b) for a, b in zip(leaves(state), leaves(dirty_state), strict=True))
    step, _ = controller.forward_step(x[0], controller.reset_mask(poisoned, is_first[0]))
    assert torch.isfinite(step).all()


@every_controller
def test_law_5_state_does_not_grow(name):
    controller = build(name)

    def size_after(episodes: int) -> int:
        state = noise_state(controller, 2)
        for _ in range(episodes):
            is_first = torch.zeros(9, 2, dtype=torch.bool)
            is_first[0] = True
            _, state = controller.forward_sequence(torch.randn(9, 2, INPUT, dtype=torch.float64), state, is_first)
        return sum(leaf.numel() for leaf in leaves(state))

    assert size_after(10) == size_after(1) == 2 * controller.state_floats()


@every_controller
def test_reset_mask_touches_only_the_rows_that_begin(name):
    controller = build(name)
    state = noise_state(controller, 3)
    kept = controller.reset_mask(state, torch.tensor([False, True, False]))
    for before, after, initial in zip(leaves(state), leaves(kept), leaves(controller.init_state(3)), strict=True):
        assert torch.equal(after[0], before[0])
        assert torch.equal(after[1], initial[1])
        assert torch.equal(after[2], before[2])


def test_gru_is_pytorchs_gru():
    reference = torch.nn.GRU(INPUT, HIDDEN).double()
    controller = build("gru")
    controller.load_state_dict({k.removesuffix("_l0"): v for k, v in reference.state_dict().items()})
    x, h0 = torch.randn(6, 2, INPUT, dtype=torch.float64), torch.randn(2, HIDDEN, dtype=torch.float64)
    expected, last = reference(x, h0.unsqueeze(0))
    features, state = controller.forward_sequence(x, h0, torch.zeros(6, 2, dtype=torch.bool))
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last[0], rtol=0, atol=1e-12)


def test_lstm_is_pytorchs_lstm():
    reference = torch.nn.LSTM(INPUT, HIDDEN).double()
    controller = build("lstm")
    controller.load_state_dict({k.removesuffix("_l0"): v for k, v in reference.state_dict().items()})
    x = torch.randn(6, 2, INPUT, dtype=torch.float64)
    h0, c0 = torch.randn(2, 2, HIDDEN, dtype=torch.float64)
    expected, (last_h, last_c) = reference(x, (h0.unsqueeze(0), c0.unsqueeze(0)))
    features, (h, c) = controller.forward_sequence(x, (h0, c0), torch.zeros(6, 2, dtype=torch.bool))
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(h, last_h[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(c, last_c[0], rtol=0, atol=1e-12)


def test_pseudo_mamba_is_its_equation():
    controller = build("pseudo_mamba")
    h = torch.randn(2, HIDDEN, dtype=torch.float64)
    x = torch.randn(2, INPUT, dtype=torch.float64)
    _, state = controller.forward_step(x, h)
    torch.testing.assert_close(state, torch.tanh(x @ controller.input_map.weight.t() + h), rtol=0, atol=0)


def test_mingru_is_its_equation():
    controller = build("mingru", horizon=30)
    x, is_first = make_sequence((9, 2, 0, 0.3), torch.float64)
    h = torch.randn(2, HIDDEN, dtype=torch.float64)
    features, _ = controller.forward_sequence(x, h, is_first)
    w_h = controller.write_scale.unsqueeze(1) * controller.candidate.weight
    for t in range(9):
        z = 1 / (1 + torch.exp(-(x[t] @ controller.gate.weight.t() + controller.gate.bias)))
        h = (1 - z) * torch.where(is_first[t].unsqueeze(1), 0, h) + z * (x[t] @ w_h.t())
        torch.testing.assert_close(features[t], h, rtol=0, atol=1e-12)


@horizons
def test_lru_is_its_equation(horizon):
    controller = build("lru", horizon=horizon)
    x, is_first = make_sequence((9, 2, 0, 0.3), torch.float64)
    h = torch.randn(2, HIDDEN // 2, dtype=torch.complex128)
    features, after = controller.forward_sequence(x, torch.view_as_real(h), is_first)
    decay = torch.exp(torch.complex(-controller.nu_log.exp(), controller.theta_log.exp()))
    b = torch.complex(controller.b[:, 0], controller.b[:, 1])
    c = torch.complex(controller.c[..., 0], -controller.c[..., 1])
    torch.testing.assert_close(controller.gamma_log.exp(), (1 - decay.abs() ** 2).sqrt(), rtol=0, atol=1e-5)
    for t in range(9):
        h = decay * torch.where(is_first[t].unsqueeze(1), 0, h)
        h = h + controller.gamma_log.exp() * ((x[t] + 0j) @ b.t())
        expected = (h @ c.t()).real + x[t] @ controller.d.t()
        torch.testing.assert_close(features[t], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.view_as_complex(after), h, rtol=0, atol=1e-12)


def test_lru_ring_holds_the_horizon():
    radius = torch.exp(-build("lru", horizon=500).nu_log.exp())
    assert (radius >= 1 - 1 / 500).all()
    assert (radius < 1).all()
