"""The models whose matrix is edited, against direct transcriptions of the papers' equations."""

import math

import pytest
import torch
from test_equations import HIDDEN, erased, head_norm, horizons, layer, run_from_noise, sequence
from test_vector_equations import same, sigmoid

HEADS, WIDTH = 4, HIDDEN // 4
EYE = torch.eye(WIDTH, dtype=torch.float64)


def heads(x):
    return x.view(len(x), HEADS, -1)


def unit(x):
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def outer(k, v):
    return torch.einsum("bhk,bhv->bhkv", k, v)


class DeltaRule:
    """What the models of the delta rule have in common, step by step."""

    def __init__(self, memory, state, x, is_first):
        self.memory, self.x, self.is_first = memory, x, is_first
        zero = torch.zeros(2, 1, state["conv"].shape[-1], dtype=torch.float64)
        self.window = torch.cat([zero, state["conv"]], 1)

    def inputs(self, t):
        """Return the query, the keys, the values and the decay of a step."""
        memory, x = self.memory, self.x[t]
        new = (x @ memory.qkv.weight.t()).unsqueeze(1)
        self.window = torch.cat([erased(self.window, self.is_first[t])[:, 1:], new], 1)
        q, *rest = (self.window * memory.conv.weight.squeeze(1).t()).sum(1).chunk(1 + 2 * memory.edits, dim=-1)
        q, *rest = (heads(u * sigmoid(u)) for u in (q + memory.query_bias, *rest))
        low = x @ memory.decay[0].weight.t()
        rate = torch.log1p(torch.exp(low @ memory.decay[1].weight.t() + memory.decay[1].bias))
        alpha = torch.exp(-memory.log_scale.exp().unsqueeze(-1) * heads(rate)).expand(2, HEADS, WIDTH)
        keys = [unit(k) for k in rest[: memory.edits]]
        return unit(q), keys, rest[memory.edits :], alpha

    def output(self, t, s, q):
        """Return the features of a step."""
        memory, x = self.memory, self.x[t]
        gate = sigmoid(x @ memory.gate.weight.t() + memory.gate.bias)
        return (head_norm(torch.einsum("bhkv,bhk->bhv", s, q), memory.norm.weight) * gate) @ memory.out.weight.t()


@horizons
def test_mamba3_is_its_equation(horizon):
    """The trapezoidal rule step by step: what a step writes, and what it adds of the input before."""
    memory = layer("mamba3", horizon, d_state=8, headdim=4, **({} if horizon else {"dt_min": 0.2, "dt_max": 1.0}))
    x, is_first = sequence(HIDDEN, steps=40, resets=0.1)
    state = {name: torch.randn_like(leaf) for name, leaf in memory.init_state(2).items()}
    features, after = memory.forward_sequence(x, state, is_first)
    s, angle, k, u = (state[name] for name in ("ssm", "angle", "k", "u"))
    width = memory.d_inner
    for t in range(40):
        s, angle, k, u = (erased(leaf, is_first[t]) for leaf in (s, angle, k, u))
        parts = torch.split(x[t] @ memory.in_proj.weight.t(), [width, width, 8, 8, *[memory.num_heads] * 3, 2], -1)
        z, u_now, b, c, delta, a, weight, phi = parts
        dt = torch.log1p(torch.exp(delta + memory.dt_bias))
        alpha, share = torch.exp(-dt * torch.log1p(torch.exp(a)).clamp(min=1e-4)), sigmoid(weight)
        angle = angle + math.pi * dt.unsqueeze(-1) * torch.tanh(phi).unsqueeze(1)
        k_now, q = (
            turned(unit_rms(one) * norm.weight + bias, angle)
            for one, norm, bias in (
                (b.unsqueeze(1), memory.B_norm, memory.B_bias),
                (c.unsqueeze(1), memory.C_norm, memory.C_bias),
            )
        )
        u_now, z = u_now.view(2, -1, 4), z.view(2, -1, 4) + memory.gate_bias
        old, new = ((1 - share) * dt * alpha)[..., None, None], (share * dt)[..., None, None]
        s = alpha[..., None, None] * s + old * outer(k, u) + new * outer(k_now, u_now)
        k, u = k_now, u_now
        y = (torch.einsum("bhn,bhnp->bhp", q, s) + memory.D.unsqueeze(-1) * u) * z * sigmoid(z)
        torch.testing.assert_close(features[t], y.flatten(1) @ memory.out_proj.weight.t(), rtol=0, atol=1e-10)
    for name, leaf in {"ssm": s, "angle": angle, "k": k, "u": u}.items():
        torch.testing.assert_close(after[name], leaf, rtol=0, atol=1e-10)


def unit_rms(x):
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()


def turned(x, angle):
    """Turn the channels i and i + 2 of 8 by the angle i, as complex numbers."""
    number = torch.complex(x[..., :2], x[..., 2:4]) * torch.exp(1j * angle)
    return torch.cat([number.real, number.imag, x[..., 4:]], -1)


@horizons
@pytest.mark.parametrize("negative", [False, True])
def test_kda_is_its_equation(horizon, negative):
    memory = layer("kda", horizon, negative_eigenvalues=negative)
    x, is_first = sequence(HIDDEN, steps=40, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    rule, s = DeltaRule(memory, state, x, is_first), state["matrix"]
    for t in range(40):
        q, (k,), (v,), alpha = rule.inputs(t)
        beta = (1 + negative) * sigmoid(x[t] @ memory.write.weight.t())[..., None, None]
        s = (EYE - beta * outer(k, k)) @ torch.diag_embed(alpha) @ erased(s, is_first[t]) + beta * outer(k, v)
        same(features[t], rule.output(t, s, q), 1e-10)
    same(after["matrix"], s, 1e-10)


@horizons
def test_gdn2_is_its_equation(horizon):
    memory = layer("gdn2", horizon)
    x, is_first = sequence(HIDDEN, steps=40, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    rule, s = DeltaRule(memory, state, x, is_first), state["matrix"]
    for t in range(40):
        q, (k,), (v,), alpha = rule.inputs(t)
        b, w = (heads(sigmoid(x[t] @ gate.weight.t())) for gate in (memory.erase, memory.write))
        s = (EYE - outer(k, b * k)) @ torch.diag_embed(alpha) @ erased(s, is_first[t]) + outer(k, w * v)
        same(features[t], rule.output(t, s, q), 1e-9)
    same(after["matrix"], s, 1e-9)


@horizons
@pytest.mark.parametrize("edits", [1, 3])
def test_gated_deltaproduct_is_its_equation(horizon, edits):
    memory = layer("gated_deltaproduct", horizon, num_edits=edits)
    x, is_first = sequence(HIDDEN, steps=40, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    rule, s = DeltaRule(memory, state, x, is_first), state["matrix"]
    for t in range(40):
        q, keys, values, alpha = rule.inputs(t)
        assert torch.equal(alpha, alpha[..., :1].expand_as(alpha))
        s = alpha[..., :1, None] * erased(s, is_first[t])
        strengths = 2 * sigmoid(x[t] @ memory.write.weight.t()).view(2, edits, HEADS)
        for j, (k, v) in enumerate(zip(keys, values, strict=True)):
            beta = strengths[:, j, :, None, None]
            s = (EYE - beta * outer(k, k)) @ s + beta * outer(k, v)
        same(features[t], rule.output(t, s, q), 1e-10)
    same(after["matrix"], s, 1e-10)


@horizons
def test_hgrn2_is_its_equation(horizon):
    memory = layer("hgrn2", horizon)
    x, is_first = sequence(HIDDEN, steps=40, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    s = state["matrix"]
    for t in range(40):
        q, i = x[t] @ memory.query.weight.t() + memory.query.bias, x[t] @ memory.value.weight.t()
        f = heads(sigmoid(x[t] @ memory.forget.weight.t() + memory.forget.bias))
        written = memory.write_scale * heads(i * sigmoid(i))
        s = f.unsqueeze(-1) * erased(s, is_first[t]) + outer(1 - f, written)
        y = torch.einsum("bhkv,bhk->bhv", s, heads(q * sigmoid(q)))
        same(features[t], head_norm(y, memory.norm.weight) @ memory.out.weight.t(), 1e-10)
    same(after["matrix"], s, 1e-10)


@horizons
def test_rwkv7_is_its_equation(horizon):
    memory = layer("rwkv7", horizon)
    for weight in (memory.address_scale, memory.key_rate, memory.bonus, memory.norm_weight, memory.norm_bias):
        torch.nn.init.normal_(weight)
    x, is_first = sequence(HIDDEN, steps=40, resets=0.05)
    features, state, after = run_from_noise(memory, x, is_first)
    s, last = state["matrix"], state["last"]
    for t in range(40):
        s, last = erased(s, is_first[t]), erased(last, is_first[t])
        x_r, x_w, x_k, x_v, x_a, x_g = (x[t] + mu * (last - x[t]) for mu in memory.shift)
        r = x_r @ memory.query.weight.t() + memory.query.bias
        k, v = x_k @ memory.key.weight.t(), x_v @ memory.value.weight.t()
        low = torch.tanh(x_w @ memory.decay[0].weight.t())
        d = low @ memory.decay[2].weight.t() + memory.decay[2].bias
        w = torch.exp(-torch.exp(torch.tensor(-0.5).double()) * sigmoid(d))
        a = sigmoid(x_a @ memory.rate[0].weight.t() @ memory.rate[1].weight.t() + memory.rate[1].bias)
        g = sigmoid(x_g @ memory.gate[0].weight.t()) @ memory.gate[2].weight.t()
        kappa = unit(heads(k * memory.address_scale))
        k = k * (1 + (a - 1) * memory.key_rate)
        r, k, v, a, w = (heads(part) for part in (r, k, v, a, w))
        s = (torch.diag_embed(w) - outer(a * kappa, kappa)) @ s + outer(k, v)
        y = torch.einsum("bhkv,bhk->bhv", s, r)
        y = y - y.mean(-1, keepdim=True)
        y = (y / (y.square().mean(-1, keepdim=True) + 64e-5).sqrt()).flatten(1) * memory.norm_weight + memory.norm_bias
        y = y + ((r * heads(memory.bonus.expand(2, -1)) * k).sum(-1, keepdim=True) * v).flatten(1)
        same(features[t], (y * g) @ memory.out.weight.t(), 1e-9)
        last = x[t]
    same(after["matrix"], s, 1e-9)
    same(after["last"], last)


def test_rwkv7_keeps_what_its_horizon_asks_for():
    memory = layer("rwkv7", 1000)
    blank = torch.zeros(1, HIDDEN, dtype=torch.float64)
    left = memory.plan(blank, memory.init_aside(1, blank), None).edits[0].log_decay.mul(1000).exp()
    assert (left > 0.36).all()
    assert (left < 0.79).all()
