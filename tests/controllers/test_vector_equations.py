"""The models with a vector or a free matrix as state, against direct transcriptions of the papers' equations."""

import math

import pytest
import torch
from test_equations import HIDDEN, INPUT, erased, horizons, layer, sequence

from memsuite.controllers import make_controller
from memsuite.controllers.base import map_state
from memsuite.controllers.vectors.s5 import hippo_normal
from memsuite.errors import UsageError


def from_noise(memory, batch=2):
    """Return a state of noise."""
    return map_state(
        lambda leaf: torch.randn_like(leaf) if leaf.is_floating_point() else leaf, memory.init_state(batch)
    )


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def same(one, other, atol=1e-11):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("horizon", [None, 50])
def test_elman_is_pytorchs_rnn(horizon):
    reference, controller = torch.nn.RNN(INPUT, HIDDEN).double(), layer("elman", horizon)
    reference.load_state_dict({f"{name}_l0": weight for name, weight in controller.state_dict().items()})
    x, h0 = torch.randn(6, 2, INPUT, dtype=torch.float64), torch.randn(2, HIDDEN, dtype=torch.float64)
    expected, last = reference(x, h0.unsqueeze(0))
    features, state = controller.forward_sequence(x, h0, torch.zeros(6, 2, dtype=torch.bool))
    same(features, expected)
    same(state, last[0])


def test_elman_begins_orthogonal_or_as_the_identity():
    eye = torch.eye(HIDDEN, dtype=torch.float64)
    turned = layer("elman", 50).weight_hh
    torch.testing.assert_close(turned @ turned.t(), eye, atol=1e-6, rtol=0)
    assert not torch.equal(turned, eye)
    assert torch.equal(layer("elman", 50, identity=True).weight_hh, eye)
    with pytest.raises(UsageError, match="identity needs a memory_horizon"):
        make_controller("elman", input_dim=3, identity=True)


@horizons
def test_trace_is_its_equation(horizon):
    memory = layer("trace", horizon, num_traces=3)
    times = [2.0, 2 * math.sqrt(50), 100.0]
    torch.testing.assert_close(
        memory.rates, torch.tensor([math.exp(-1 / t) for t in times]).double(), rtol=0, atol=1e-6
    )
    x, is_first = sequence()
    z = from_noise(memory)
    features, after = memory.forward_sequence(x, z, is_first)
    for t in range(9):
        z = memory.rates.view(1, 3, 1) * erased(z, is_first[t]) + x[t].unsqueeze(1)
        normed = z / (z.square().mean(-1, keepdim=True) + 1e-8).sqrt()
        inner = torch.cat([x[t], normed.flatten(1)], 1) @ memory.first.weight.t() + memory.first.bias
        same(features[t], (inner * sigmoid(inner)) @ memory.second.weight.t() + memory.second.bias)
    same(after, z)


def test_the_traces_have_no_parameters():
    memory = layer("trace", 50)
    assert {name.split(".")[0] for name, _ in memory.named_parameters()} == {"first", "second"}
    assert not list(memory.recurrent_parameters())


@horizons
def test_rtu_is_its_equation(horizon):
    memory = layer("rtu", horizon)
    x, is_first = sequence()
    state = from_noise(memory)
    features, after = memory.forward_sequence(x, state, is_first)
    r, theta = torch.exp(-memory.nu_log.exp()), memory.theta_log.exp()
    gamma, (w_1, w_2) = (1 - r**2).sqrt(), memory.input_map.unbind(1)
    c_1, c_2 = state.unbind(-1)
    for t in range(9):
        c_1, c_2 = erased(c_1, is_first[t]), erased(c_2, is_first[t])
        c_1, c_2 = (
            r * (theta.cos() * c_1 - theta.sin() * c_2) + gamma * (x[t] @ w_1.t()),
            r * (theta.sin() * c_1 + theta.cos() * c_2) + gamma * (x[t] @ w_2.t()),
        )
        same(features[t], torch.tanh(torch.cat([c_1, c_2], 1)))
    same(after, torch.stack([c_1, c_2], -1))


def test_an_odd_width_is_refused_where_numbers_come_in_pairs():
    for name in ("rtu", "gtrxl"):
        arguments = {"num_heads": 1} if name == "gtrxl" else {}
        with pytest.raises(UsageError, match="must be even"):
            make_controller(name, input_dim=3, hidden_dim=7, **arguments)


def test_hippo_normal_is_the_normal_part_of_hippo_legs():
    values, vectors = hippo_normal(4)
    n = torch.arange(8, dtype=torch.float64)
    root = (2 * n + 1).sqrt()
    legs = -torch.where(n.unsqueeze(1) > n, torch.outer(root, root), torch.diag(n + 1))
    low = (n + 0.5).sqrt()
    normal = (legs + torch.outer(low, low)).to(torch.complex64)
    torch.testing.assert_close(normal @ vectors, vectors * values, rtol=0, atol=1e-4)


@horizons
def test_s5_is_its_equation(horizon):
    memory = layer("s5", horizon)
    x, is_first = sequence(HIDDEN)
    state = from_noise(memory)
    features, after = memory.forward_sequence(x, state, is_first)
    values, step = torch.complex(-memory.log_rate.exp(), memory.frequency), memory.log_step.exp()
    decay = torch.exp(values * step)
    b = ((decay - 1) / values).unsqueeze(1) * torch.complex(memory.b[:, 0], memory.b[:, 1])
    c, s = torch.view_as_complex(memory.c), torch.view_as_complex(state)
    for t in range(9):
        s = decay * erased(s, is_first[t]) + (x[t] + 0j) @ b.t()
        y = 2 * (s @ c.t()).real + memory.d * x[t]
        v = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
        same(features[t], v * sigmoid(v @ memory.gate.weight.t()))
    same(after, torch.view_as_real(s))


@pytest.mark.parametrize("horizon", [20, 1000, 100_000])
def test_s5_writes_a_cue_at_unit_size_for_any_horizon(horizon):
    memory = make_controller("s5", input_dim=5, hidden_dim=64, memory_horizon=horizon).layers[0]
    _, state = memory.forward_step(torch.randn(64, 64), memory.init_state(64))
    assert 0.5 < float(state.detach().square().sum(-1).mean()) < 2


@horizons
def test_ffm_is_its_equation(horizon):
    memory = layer("ffm", horizon, memory_size=3, context_size=2)
    x, is_first = sequence()
    state = from_noise(memory)
    features, after = memory.forward_sequence(x, state, is_first)
    s = torch.view_as_complex(state)
    decay = torch.exp(-memory.rate.abs().unsqueeze(1) - 1j * memory.frequency)
    for t in range(9):
        write, gate, skip = (x[t] @ m.weight.t() + m.bias for m in (memory.write, memory.gate, memory.skip))
        write = write * sigmoid(x[t] @ memory.write_gate.weight.t() + memory.write_gate.bias)
        s = decay * erased(s, is_first[t]) + write.unsqueeze(-1)
        z = torch.cat([s.real, s.imag], 1).flatten(1) @ memory.mix.weight.t() + memory.mix.bias
        z = z - z.mean(-1, keepdim=True)
        z = z / (z.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        same(features[t], z * sigmoid(gate) + skip * (1 - sigmoid(gate)))
    same(after, torch.view_as_real(s))


@horizons
def test_slstm_is_its_equation(horizon):
    """Without the stabiliser: the exponentials as in the paper's equations, with all weights random."""
    memory = layer("slstm", horizon)
    torch.nn.init.normal_(memory.mixing)
    torch.nn.init.normal_(memory.input_map.weight)
    x, is_first = sequence(HIDDEN, steps=30, resets=0.1)
    state = from_noise(memory)
    state["n"] = 1 + state["n"].square()
    features, after = memory.forward_sequence(x, state, is_first)
    scale = state["m"].exp()
    h, c, n = state["h"], state["c"] * scale, state["n"] * scale
    for t in range(30):
        h, c, n = (erased(part, is_first[t]) for part in (h, c, n))
        mixed = torch.einsum("ghij,bhj->bghi", memory.mixing, h.view(2, 4, -1)).flatten(1)
        i, f, z, o = (x[t] @ memory.input_map.weight.t() + memory.input_map.bias + mixed).chunk(4, dim=1)
        c = sigmoid(f) * c + torch.exp(i) * torch.tanh(z)
        n = sigmoid(f) * n + torch.exp(i)
        h = sigmoid(o) * c / n
        heads = h.view(2, 4, -1)
        expected = (heads / (heads.square().mean(-1, keepdim=True) + 1e-8).sqrt()).flatten(1) * memory.norm_weight
        same(features[t], expected, 1e-9)
    torch.testing.assert_close(after["c"] * after["m"].exp(), c, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after["n"] * after["m"].exp(), n, rtol=1e-9, atol=1e-9)


def test_slstm_survives_gates_no_exponential_would():
    """In single precision, with input gates whose exponentials overflow and underflow, in both modes."""
    memory = layer("slstm").float()
    torch.nn.init.normal_(memory.input_map.weight, std=100)
    x, is_first = sequence(HIDDEN, steps=70, resets=0.05)
    x = x.float().requires_grad_()
    features, after = memory.forward_sequence(x, memory.init_state(2), is_first)
    features.sum().backward()
    step, _ = memory.forward_step(x[0], memory.init_state(2))
    assert all(torch.isfinite(leaf).all() for leaf in (features, x.grad, step, *after.values()))


def test_shm_is_its_equation():
    memory = layer("shm", memory_size=3, table_size=7)
    x, is_first = sequence(steps=20, resets=0.1)
    state = from_noise(memory)
    state["position"] = torch.tensor([5, 900])
    features, after = memory.forward_sequence(x, state, is_first)
    m, position = state["memory"], state["position"]
    for t in range(20):
        m, position = erased(m, is_first[t]), position * ~is_first[t]
        u = x[t] - x[t].mean(-1, keepdim=True)
        u = u / (u.square().mean(-1, keepdim=True) + 1e-5).sqrt() * memory.norm.weight + memory.norm.bias
        v, v_c, k, q = (u @ w.t() for w in memory.maps.weight.chunk(4))
        q = q + memory.query_bias
        k, q = (part.clamp(min=0) / (part.clamp(min=0).sum(-1, keepdim=True) + 1e-5) for part in (k, q))
        rows = [int(p) * 2_654_435_761 % 2**32 * 7 // 2**32 for p in position]
        c = 1 + torch.tanh(torch.einsum("bi,bj->bij", memory.table[rows], v_c))
        eta = sigmoid(u @ memory.write_gate.weight.t() + memory.write_gate.bias)
        m = m * c + torch.einsum("bi,bj->bij", eta * v, k)
        same(features[t], torch.einsum("bij,bj->bi", m, q) @ memory.out.weight.t() + memory.out.bias)
        position = position + 1
    same(after["memory"], m)
    assert torch.equal(after["position"], position)


def test_the_rows_of_shms_table_come_about_equally_often_and_in_no_order():
    from memsuite.controllers.matrices.shm import BITS, MULTIPLIER

    rows = torch.arange(12_800) * MULTIPLIER % 2**BITS * 128 >> BITS
    assert set(torch.bincount(rows, minlength=128).tolist()) <= set(range(95, 106))
    assert (rows.diff().abs() > 1).float().mean() > 0.9
