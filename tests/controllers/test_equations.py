"""Every model against the library's own or a direct transcription of the paper's equations."""

import pytest
import torch
from torch.nn.functional import elu

from memsuite.analysis.retention import retention
from memsuite.controllers import make_controller

INPUT, HIDDEN = 5, 8
horizons = pytest.mark.parametrize("horizon", [None, 50], ids=["default", "horizon_aware"])


def layer(name: str, horizon: int | None = None, **arguments):
    """Return the first layer of a controller, in double precision."""
    controller = make_controller(name, input_dim=INPUT, hidden_dim=HIDDEN, memory_horizon=horizon, **arguments)
    return controller.layers[0].double()


def sequence(width: int = INPUT, steps: int = 9, resets: float = 0.3):
    return torch.randn(steps, 2, width, dtype=torch.float64), torch.rand(steps, 2) < resets


def test_gru_is_pytorchs_gru():
    reference = torch.nn.GRU(INPUT, HIDDEN).double()
    controller = layer("gru")
    controller.load_state_dict({k.removesuffix("_l0"): v for k, v in reference.state_dict().items()})
    x, h0 = torch.randn(6, 2, INPUT, dtype=torch.float64), torch.randn(2, HIDDEN, dtype=torch.float64)
    expected, last = reference(x, h0.unsqueeze(0))
    features, state = controller.forward_sequence(x, h0, torch.zeros(6, 2, dtype=torch.bool))
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last[0], rtol=0, atol=1e-12)


def test_lstm_is_pytorchs_lstm():
    reference = torch.nn.LSTM(INPUT, HIDDEN).double()
    controller = layer("lstm")
    controller.load_state_dict({k.removesuffix("_l0"): v for k, v in reference.state_dict().items()})
    x = torch.randn(6, 2, INPUT, dtype=torch.float64)
    h0, c0 = torch.randn(2, 2, HIDDEN, dtype=torch.float64)
    expected, (last_h, last_c) = reference(x, (h0.unsqueeze(0), c0.unsqueeze(0)))
    features, (h, c) = controller.forward_sequence(x, (h0, c0), torch.zeros(6, 2, dtype=torch.bool))
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(h, last_h[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(c, last_c[0], rtol=0, atol=1e-12)


def test_pseudo_mamba_is_its_equation():
    controller = layer("pseudo_mamba")
    h = torch.randn(2, HIDDEN, dtype=torch.float64)
    x = torch.randn(2, INPUT, dtype=torch.float64)
    _, state = controller.forward_step(x, h)
    torch.testing.assert_close(state, torch.tanh(x @ controller.input_map.weight.t() + h), rtol=0, atol=0)


def test_mingru_is_its_equation():
    controller = layer("mingru", horizon=30)
    x, is_first = sequence()
    h = torch.randn(2, HIDDEN, dtype=torch.float64)
    features, _ = controller.forward_sequence(x, h, is_first)
    w_h = controller.write_scale.unsqueeze(1) * controller.candidate.weight
    for t in range(9):
        z = 1 / (1 + torch.exp(-(x[t] @ controller.gate.weight.t() + controller.gate.bias)))
        h = (1 - z) * torch.where(is_first[t].unsqueeze(1), 0, h) + z * (x[t] @ w_h.t())
        torch.testing.assert_close(features[t], h, rtol=0, atol=1e-12)


@horizons
def test_lru_is_its_equation(horizon):
    controller = layer("lru", horizon=horizon)
    x, is_first = sequence()
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
    radius = torch.exp(-layer("lru", horizon=500).nu_log.exp())
    assert (radius >= 1 - 1 / 500).all()
    assert (radius < 1).all()


def erased(state, is_first):
    """Zero the rows of a state that begin an episode."""
    return torch.where(is_first.view(-1, *[1] * (state.dim() - 1)), torch.zeros((), dtype=state.dtype), state)


def per_head(x, weight, heads=4):
    return (x @ weight.t()).view(len(x), heads, -1)


def head_norm(y, weight):
    """Normalise ``[B, H, V]`` head by head and join them."""
    return (y / (y.square().mean(-1, keepdim=True) + 1e-8).sqrt()).flatten(1) * weight


def run_from_noise(memory, x, is_first):
    """Run a layer from a state of noise; return features, the state before and the state after."""
    state = {name: torch.randn_like(leaf) for name, leaf in memory.init_state(2).items()}
    features, after = memory.forward_sequence(x, state, is_first)
    return features, state, after


def test_gated_pseudo_mamba_is_its_equation():
    memory = layer("pseudo_mamba", gated=True)
    x, is_first = sequence(HIDDEN)
    h = torch.randn(2, HIDDEN, dtype=torch.float64)
    features, after = memory.forward_sequence(x, h, is_first)
    for t in range(9):
        h = torch.tanh(x[t] @ memory.input_map.weight.t() + erased(h, is_first[t]))
        gate = x[t] @ memory.gate.weight.t() + memory.gate.bias
        normed = h / (h.square().mean(-1, keepdim=True) + 1e-8).sqrt() * memory.norm.weight
        expected = (normed * gate / (1 + torch.exp(-gate))) @ memory.out.weight.t()
        torch.testing.assert_close(features[t], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(after, h, rtol=0, atol=1e-12)


def test_linear_attention_is_its_equation():
    memory = layer("linear_attention")
    x, is_first = sequence(HIDDEN, steps=70, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    s = state["matrix"]
    for t in range(70):
        q, k, v = (per_head(x[t], w) for w in memory.qkv.weight.chunk(3))
        phi_q, phi_k = (torch.where(u > 0, u + 1, torch.exp(u)) for u in (q, k))
        s = erased(s, is_first[t]) + torch.einsum("bhk,bhv->bhkv", phi_k, v)
        y = torch.einsum("bhkv,bhk->bhv", s, phi_q)
        expected = head_norm(y, memory.norm.weight) @ memory.out.weight.t()
        torch.testing.assert_close(features[t], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(after["matrix"], s, rtol=0, atol=1e-10)


def test_linear_attention_without_its_denominator_answers_the_same():
    """The paper's average over all keys, then the norm of each head, from the beginning of an episode."""
    memory = layer("linear_attention")
    x, is_first = sequence(HIDDEN, steps=70, resets=0.0)
    is_first[0] = True
    features, _ = memory.forward_sequence(x, memory.init_state(2), is_first)
    s, z = memory.init_state(2)["matrix"], 0.0
    for t in range(70):
        q, k, v = (per_head(x[t], w) for w in memory.qkv.weight.chunk(3))
        phi_q, phi_k = elu(q) + 1, elu(k) + 1
        s, z = s + torch.einsum("bhk,bhv->bhkv", phi_k, v), z + phi_k
        y = torch.einsum("bhkv,bhk->bhv", s, phi_q) / torch.einsum("bhk,bhk->bh", z, phi_q).unsqueeze(-1)
        exact = y * torch.rsqrt(y.square().mean(-1, keepdim=True))
        expected = (exact.flatten(-2) * memory.norm.weight) @ memory.out.weight.t()
        torch.testing.assert_close(features[t], expected, rtol=1e-4, atol=1e-4)  # the norm's epsilon


def test_linear_attention_answers_many_blank_steps_later_as_at_once():
    memory = make_controller("linear_attention", input_dim=9, hidden_dim=16, depth=1)
    assert retention(memory, 50_000) == pytest.approx(retention(memory, 10), rel=1e-4)
    assert retention(memory, 10) > 0.1


@horizons
@pytest.mark.parametrize("negative", [False, True])
def test_gated_deltanet_is_its_equation(horizon, negative):
    memory = layer("gated_deltanet", horizon, negative_eigenvalues=negative)
    x, is_first = sequence(HIDDEN, steps=70, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    s, window = state["matrix"], torch.cat([torch.zeros(2, 1, 3 * HIDDEN), state["conv"]], 1)
    for t in range(70):
        s = erased(s, is_first[t])
        new = (x[t] @ memory.qkv.weight.t()).unsqueeze(1)
        window = torch.cat([erased(window, is_first[t])[:, 1:], new], 1)
        mixed = (window * memory.conv.weight.squeeze(1).t()).sum(1)
        q, k, v = mixed.chunk(3, dim=-1)
        q, k, v = ((u / (1 + torch.exp(-u))).view(2, 4, -1) for u in (q + memory.query_bias, k, v))
        q, k = (u / (u.square().sum(-1, keepdim=True) + 1e-6).sqrt() for u in (q, k))
        beta = (1 + negative) / (1 + torch.exp(-(x[t] @ memory.write.weight.t())))
        rate = torch.log1p(torch.exp(x[t] @ memory.decay.weight.t() + memory.decay.bias))
        alpha = torch.exp(-memory.log_scale.exp() * rate)[..., None, None]
        eye = torch.eye(2, dtype=torch.float64)
        projection = eye - beta[..., None, None] * torch.einsum("bhi,bhj->bhij", k, k)
        s = alpha * projection @ s + beta[..., None, None] * torch.einsum("bhk,bhv->bhkv", k, v)
        gate = x[t] @ memory.gate.weight.t() + memory.gate.bias
        o = head_norm(torch.einsum("bhkv,bhk->bhv", s, q), memory.norm.weight) * gate / (1 + torch.exp(-gate))
        torch.testing.assert_close(features[t], o @ memory.out.weight.t(), rtol=0, atol=1e-10)
    torch.testing.assert_close(after["matrix"], s, rtol=0, atol=1e-10)


@horizons
def test_mlstm_is_its_equation(horizon):
    """Without the stabiliser: the exponentials as in the paper's equations, with gates that depend on x."""
    memory = layer("mlstm", horizon)
    for gate in (memory.input_gate, memory.forget_gate):
        torch.nn.init.normal_(gate.weight)
    x, is_first = sequence(HIDDEN, steps=70, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    scale = state["m"].exp()[..., None, None]
    c, n = (scale * state["matrix"])[..., :-1], (scale * state["matrix"])[..., -1]
    for t in range(70):
        q, k, v = (per_head(x[t], w) for w in memory.qkv.weight.chunk(3))
        q = q + memory.query_bias.view(4, -1)
        i = torch.exp(x[t] @ memory.input_gate.weight.t() + memory.input_gate.bias).unsqueeze(-1)
        f = torch.sigmoid(x[t] @ memory.forget_gate.weight.t() + memory.forget_gate.bias).unsqueeze(-1)
        k = k / 2**0.5
        c = f.unsqueeze(-1) * erased(c, is_first[t]) + i.unsqueeze(-1) * torch.einsum("bhk,bhv->bhkv", k, v)
        n = f * erased(n, is_first[t]) + i * k
        answer = torch.einsum("bhkv,bhk->bhv", c, q)
        y = answer / torch.einsum("bhk,bhk->bh", n, q).abs().clamp(min=1).unsqueeze(-1)
        o = torch.sigmoid(x[t] @ memory.output_gate.weight.t() + memory.output_gate.bias)
        expected = (o * head_norm(y, memory.norm.weight)) @ memory.out.weight.t()
        torch.testing.assert_close(features[t], expected, rtol=0, atol=1e-10)
    scale = after["m"].exp()[..., None, None]
    torch.testing.assert_close(scale * after["matrix"], torch.cat([c, n.unsqueeze(-1)], -1), rtol=1e-10, atol=1e-10)


def test_mlstm_survives_gates_no_exponential_would():
    """In single precision, with input gates whose exponentials overflow and underflow."""
    memory = layer("mlstm").float()
    torch.nn.init.normal_(memory.input_gate.weight, std=100)
    x, is_first = sequence(HIDDEN, steps=70, resets=0.05)
    x = x.float().requires_grad_()
    features, after = memory.forward_sequence(x, memory.init_state(2), is_first)
    features.sum().backward()
    assert all(torch.isfinite(leaf).all() for leaf in (features, x.grad, *after.values()))
