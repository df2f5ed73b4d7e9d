"""The specific risks of the transformer: the window, the chunks, resets of the caches, cost over time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memsuite.controllers import Controller, Transformer
from memsuite.errors import UsageError

INPUT, WIDTH = 3, 8


def build(**arguments) -> Transformer:
    return Transformer(INPUT, WIDTH, num_heads=2, **{"depth": 1, **arguments}).double()


def run_and_differentiate(controller, run, x):
    x = x.clone().requires_grad_()
    features, state = run(x)
    outputs = [features, *(its[name] for its in state for name in ("keys", "values"))]
    torch.manual_seed(1)
    loss = sum((out * torch.randn_like(out)).sum() for out in outputs)
    return [*outputs, *torch.autograd.grad(loss, [x, *controller.parameters()])], state[0]["position"]


@settings(max_examples=15)
@given(
    context=st.integers(1, 9),
    chunk=st.integers(1, 6),
    steps=st.integers(1, 14),
    resets=st.sampled_from([0, 0.2]),
    seed=st.integers(0, 10**6),
)
def test_windows_and_chunks_equal_the_loop(context, chunk, steps, resets, seed):
    """From a state that has read 5 steps, with two blocks, over all combinations of sizes."""
    torch.manual_seed(seed)
    controller = build(context_length=context, chunk=chunk, depth=2)
    no_reset = torch.zeros(5, 2, dtype=torch.bool)
    x, is_first = torch.randn(steps + 5, 2, INPUT, dtype=torch.float64), torch.rand(steps, 2) < resets

    def run_by(forward):
        def run(x):
            _, state = forward(controller, x[:5], controller.init_state(2), no_reset)
            return forward(controller, x[5:], state, is_first)

        return run_and_differentiate(controller, run, x)

    (whole, position), (loop, loop_position) = run_by(Transformer.forward_sequence), run_by(Controller.forward_sequence)
    assert torch.equal(position, loop_position)
    for one, other in zip(whole, loop, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def rotated(x, position):
    """Rotate ``[.., width of a head]`` by a position, as complex numbers."""
    a, b = x.chunk(2, dim=-1)
    frequency = 10_000.0 ** -(torch.arange(a.shape[-1], dtype=torch.float64) / a.shape[-1])
    turned = torch.complex(a, b) * torch.exp(1j * position * frequency)
    return torch.cat([turned.real, turned.imag], dim=-1)


def test_it_is_its_equation():
    context = 4
    controller = build(context_length=context)
    block = controller.blocks[0]
    x = torch.randn(7, 1, INPUT, dtype=torch.float64)
    features, _ = controller.forward_sequence(x, controller.init_state(1), torch.zeros(7, 1, dtype=torch.bool))
    attention, (norm_mlp, mlp) = block.layer, block.mlp
    u = x[:, 0] @ controller.embed.weight.t()
    q, k, v = (block.norm(u) @ attention.qkv.weight.t()).view(7, 3, 2, WIDTH // 2).unbind(1)
    for t in range(7):
        heads = []
        for head in range(2):
            window = range(max(0, t - context + 1), t + 1)
            scores = torch.stack([rotated(q[t, head], t) @ rotated(k[j, head], j) for j in window])
            weights = torch.softmax(scores / (WIDTH // 2) ** 0.5, dim=0)
            heads.append(sum(weight * v[j, head] for weight, j in zip(weights, window, strict=True)))
        y = u[t] + attention.norm(torch.cat(heads)) @ attention.out.weight.t()
        gate, up = (norm_mlp(y) @ mlp.up.weight.t()).chunk(2)
        y = y + (gate / (1 + torch.exp(-gate)) * up) @ mlp.down.weight.t()
        torch.testing.assert_close(features[t, 0], y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("forward", [Transformer.forward_sequence, Controller.forward_sequence], ids=["whole", "loop"])
def test_the_window_ends_where_it_says(forward):
    """One block sees exactly ``context_length`` steps, itself included, also across a carried state."""
    controller = build(context_length=4, chunk=3)
    x = torch.randn(12, 1, INPUT, dtype=torch.float64, requires_grad=True)
    is_first = torch.zeros(12, 1, dtype=torch.bool)
    _, state = forward(controller, x[:6], controller.init_state(1), is_first[:6])
    features, _ = forward(controller, x[6:], state, is_first[6:])
    for t in range(6, 12):
        (gradient,) = torch.autograd.grad(features[t - 6].sum(), x, retain_graph=True)
        seen = gradient.abs().sum((1, 2)) > 0
        assert seen.nonzero().flatten().tolist() == [t - 3, t - 2, t - 1, t]


@pytest.mark.parametrize("poison", [float("inf"), float("nan")])
def test_a_reset_row_ignores_a_poisoned_full_cache(poison):
    """The position is carried on too: a cache that claims to be full is emptied, and the other row is unchanged."""
    layer = build(context_length=4).layers[0]
    no_reset = torch.zeros(6, 2, dtype=torch.bool)
    x = torch.randn(6, 2, WIDTH, dtype=torch.float64)
    _, state = layer.forward_sequence(x, layer.init_state(2), no_reset)
    poisoned = {name: leaf.clone() for name, leaf in state.items()}
    poisoned["keys"][0] = poisoned["values"][0] = poison
    is_first = no_reset.clone()
    is_first[0, 0] = True
    clean, after = layer.forward_sequence(x, state, is_first)
    dirty, dirty_after = layer.forward_sequence(x, poisoned, is_first)
    assert torch.equal(clean, dirty)
    assert all(torch.equal(after[name], dirty_after[name]) for name in after)


def test_sizes_that_cannot_be_are_named():
    with pytest.raises(UsageError, match="multiple of"):
        Transformer(INPUT, 6)
    with pytest.raises(UsageError, match="context_length is 0"):
        Transformer(INPUT, WIDTH, context_length=0)
