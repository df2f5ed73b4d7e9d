"""The models that see the last steps of the episode, against direct transcriptions of the papers' equations."""

import math

import pytest
import torch
from test_equations import HIDDEN, erased, horizons, layer, sequence
from test_vector_equations import same, sigmoid

from memsuite.controllers import make_controller
from memsuite.controllers.windows.gated_block import GatedBlock, GRUGate

HEADS = 4


def unit(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-8).sqrt()


def visible(is_first, row, t, context):
    """List the steps that step ``t`` of a row may see, oldest first."""
    began = max((s for s in range(t + 1) if is_first[s, row]), default=0)
    return list(range(max(began, t - context + 1), t + 1))


def attention(memory, x, is_first, context, score):
    """Attend step by step and head by head; ``score(row, i, j, head, q, k)`` is the score of a key."""
    steps, rows, _ = x.shape
    q = x @ memory.query.weight.t()
    k, v = (x @ memory.key_value.weight.t()).chunk(2, dim=-1)
    out = torch.zeros(steps, rows, HIDDEN, dtype=torch.float64)
    width = HIDDEN // HEADS
    for row in range(rows):
        for i in range(steps):
            seen = visible(is_first, row, i, context)
            for head in range(HEADS):
                at = slice(head * width, (head + 1) * width)
                scores = torch.stack([score(row, i, j, head, q[i, row, at], k[j, row, at]) for j in seen])
                out[i, row, at] = scores.softmax(0) @ v[seen, row][:, at]
    return unit(out) * memory.norm.weight @ memory.out.weight.t()


@horizons
def test_fox_is_its_equation(horizon):
    memory = layer("fox", horizon, context_length=5, chunk=3)
    torch.nn.init.normal_(memory.forget.weight)
    x, is_first = sequence(HIDDEN, steps=14, resets=0.15)
    is_first[0] = True
    features, _ = memory.forward_sequence(x, memory.init_state(2), is_first)
    log_f = torch.log(sigmoid(x @ memory.forget.weight.t() + memory.forget.bias))

    def score(row, i, j, head, q, k):
        return q @ k / math.sqrt(HIDDEN // HEADS) + log_f[j + 1 : i + 1, row, head].sum()

    same(features, attention(memory, x, is_first, 5, score))


def gtrxl_score(memory):
    """Return the score of the Transformer-XL: by content and by age."""
    half, width = HIDDEN // 2, HIDDEN // HEADS

    def score(row, i, j, head, q, k):
        at = slice(head * width, (head + 1) * width)
        angles = [(i - j) * 10_000.0 ** (-n / half) for n in range(half)]
        signal = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles]).double()
        r = (memory.position_map.weight @ signal)[at]
        return ((q + memory.content_bias[at]) @ k + (q + memory.position_bias[at]) @ r) / math.sqrt(width)

    return score


@pytest.mark.parametrize("window", [None, 3])
def test_gtrxl_is_its_equation(window):
    memory = layer("gtrxl", context_length=5, chunk=3, gradient_window=window)
    torch.nn.init.normal_(memory.content_bias)
    torch.nn.init.normal_(memory.position_bias)
    x, is_first = sequence(HIDDEN, steps=14, resets=0.15)
    is_first[0] = True
    features, _ = memory.forward_sequence(x, memory.init_state(2), is_first)
    same(features, attention(memory, x, is_first, 5, gtrxl_score(memory)), 1e-7)  # sinusoids of rounded angles


@pytest.mark.parametrize(
    ("window", "reached"), [(None, range(2, 7)), (4, range(4, 7)), (6, range(6, 7)), (7, range(2, 7))]
)
def test_the_gradient_ends_at_the_segment(window, reached):
    memory = layer("gtrxl", context_length=5, gradient_window=window)
    x = torch.randn(7, 1, HIDDEN, dtype=torch.float64).requires_grad_()
    features, _ = memory.forward_sequence(x, memory.init_state(1), torch.arange(7).unsqueeze(1) == 0)
    features[-1].sum().backward()
    assert x.grad.abs().sum((1, 2)).nonzero().flatten().tolist() == list(reached)


def test_the_gate_of_gtrxl_is_its_equation():
    gate = GRUGate(HIDDEN, bias=2.0).double()
    x, y = torch.randn(2, 3, HIDDEN, dtype=torch.float64)
    w_r, w_z, w_h = gate.branch.weight.chunk(3)
    u_r, u_z = gate.stream.weight.chunk(2)
    r, z = sigmoid(y @ w_r.t() + x @ u_r.t()), sigmoid(y @ w_z.t() + x @ u_z.t() - 2)
    h = torch.tanh(y @ w_h.t() + (r * x) @ gate.candidate.weight.t())
    same(gate(x, y), (1 - z) * x + z * h)


def test_gtrxl_is_a_stack_of_gated_blocks():
    model = make_controller("gtrxl", input_dim=5, hidden_dim=HIDDEN, memory_horizon=6, mlp_ratio=2.0).double()
    assert [type(block) for block in model.blocks] == [GatedBlock] * 2
    assert float(model.blocks[0].gate.bias.detach()[0]) < type(model.layers[0]).placement().gate_bias == 2
    x = torch.randn(4, 1, 5, dtype=torch.float64)
    is_first = torch.arange(4).unsqueeze(1) == 0
    features, _ = model.forward_sequence(x, model.init_state(1), is_first)
    u = x @ model.embed.weight.t()
    for block in model.blocks:
        branch, _ = block.layer.forward_sequence(unit(u) * block.norm.weight, block.layer.init_state(1), is_first)
        u = block.gate(u, branch.clamp(min=0))
        norm, up, _, down = block.mlp
        inner = (unit(u) * norm.weight @ up.weight.t() + up.bias).clamp(min=0)
        u = block.mlp_gate(u, (inner @ down.weight.t() + down.bias).clamp(min=0))
    same(features, u)


@horizons
def test_hyena_is_its_equation(horizon):
    memory = layer("hyena", horizon, context_length=5)
    x, is_first = sequence(HIDDEN, steps=14, resets=0.15)
    is_first[0] = True
    features, _ = memory.forward_sequence(x, memory.init_state(2), is_first)
    ages = [a / 4 for a in range(5)]
    signal = [
        [
            t,
            *(math.sin(2 * math.pi * t * n) for n in range(1, 9)),
            *(math.cos(2 * math.pi * t * n) for n in range(1, 9)),
        ]
        for t in ages
    ]
    inner = torch.sin(8 * (torch.tensor(signal).double() @ memory.first.weight.t() + memory.first.bias))
    inner = torch.sin(8 * (inner @ memory.second.weight.t() + memory.second.bias))
    decay = torch.exp(-torch.tensor(ages).double().unsqueeze(1) * memory.rates) + (0.05 if horizon is None else 0.0)
    h = inner @ memory.last.weight.t() * decay
    mixed, taps = x @ memory.project.weight.t(), memory.conv.weight.squeeze(1)
    for row in range(2):
        z = []
        for t in range(14):
            short = sum(mixed[s, row] * taps[:, 2 - (t - s)] for s in visible(is_first, row, t, 3))
            v, first, second = short.chunk(3)
            z.append(first * v)
            long = sum(h[t - s] * z[s] for s in visible(is_first, row, t, 5))
            y = unit((second + memory.gate_bias) * (long + memory.present * z[t])) * memory.norm.weight
            same(features[t, row], y @ memory.out.weight.t(), 1e-7)  # sinusoids of rounded angles


def test_nothing_older_than_the_filter_or_the_context_is_seen():
    for name, oldest in (("hyena", 4), ("fox", 5), ("gtrxl", 5)):  # Hyena's short convolution sees one more
        memory = layer(name, context_length=4, **({"conv_width": 2} if name == "hyena" else {}))
        x = torch.randn(9, 1, HIDDEN, dtype=torch.float64).requires_grad_()
        features, _ = memory.forward_sequence(x, memory.init_state(1), torch.arange(9).unsqueeze(1) == 0)
        features[-1].sum().backward()
        reached = x.grad.abs().sum((1, 2)) > 1e-12  # the sums of older gates cancel, to rounding
        assert reached.nonzero().flatten().tolist() == list(range(oldest, 9)), name


def test_erased_rows_of_a_cache_are_zero():
    memory = layer("fox", context_length=4)
    state = {name: torch.ones_like(leaf) for name, leaf in memory.init_state(2).items()}
    kept = memory.reset_mask(state, torch.tensor([True, False]))
    assert torch.equal(kept["keys"], erased(state["keys"], torch.tensor([True, False])))
