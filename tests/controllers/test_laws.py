"""The five laws of controllers, for every registered controller, in float32 and float64, from a state of noise."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from memsuite.controllers import CONTROLLERS, Controller, make_controller
from memsuite.controllers.base import ZeroBegin, map_state

INPUT, HIDDEN = 5, 8
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


class Leaky(ZeroBegin):
    """A layer as a user writes it: it keeps half of its state at each step, and loops over the steps of a sequence."""

    def __init__(self, input_dim, hidden_dim=64, memory_horizon=None):
        super().__init__()
        self.input_dim, self.feature_dim, self.memory_horizon = input_dim, hidden_dim, memory_horizon
        self.write = torch.nn.Linear(input_dim, hidden_dim)

    def init_state(self, batch_size, device=None):
        like = self.write.weight
        return {"held": torch.zeros(batch_size, self.feature_dim, device=device or like.device, dtype=like.dtype)}

    def forward_step(self, x_BD, state):
        held = 0.5 * state["held"] + self.write(x_BD)
        return held.tanh(), {"held": held}


both_dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
# Some models are also tested as a stack of several layers, and in variants other than the default.
VARIANTS = {
    "gru, 2 layers": {"depth": 2},
    "lru, 2 layers": {"depth": 2},
    "pseudo_mamba, 2 layers": {"depth": 2},
    "pseudo_mamba, gated": {"gated": True},
    "gated_deltanet, 2 layers": {"depth": 2},
    "transformer, 2 layers, 3 steps of context": {"depth": 2, "context_length": 3},
    "elman, from the identity": {"identity": True, "memory_horizon": 50},
    "slstm, one layer of two heads": {"depth": 1, "num_heads": 2},
    "shm, 2 layers": {"depth": 2, "memory_size": 12},
    "gtrxl, 3 steps of context in chunks of 2": {"context_length": 3, "chunk": 2},
    "gtrxl, no gradient beyond a segment of 3 steps": {"gradient_window": 3, "context_length": 7},
    "fox, 3 steps of context in chunks of 2": {"context_length": 3, "chunk": 2},
    "hyena, 3 steps of context": {"context_length": 3},
    "memsuite.controllers.memoryless.Memoryless": {},
    f"{__name__}.Leaky": {},
    f"{__name__}.Leaky, 3 layers": {"depth": 3},
}
every_controller = pytest.mark.parametrize("name", [*CONTROLLERS, *VARIANTS])
horizons = pytest.mark.parametrize("horizon", [None, 50], ids=["default", "horizon_aware"])


def build(name: str, dtype: torch.dtype = torch.float64, horizon: int | None = None) -> Controller:
    arguments = {"input_dim": INPUT, "hidden_dim": HIDDEN, "memory_horizon": horizon, **VARIANTS.get(name, {})}
    return make_controller(name.split(",")[0], **arguments).to(dtype)


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


def assert_same(name, dtype, one, other, x, state, horizon=None):
    """Assert that two ways to run a controller agree: ``one(controller, x, state)`` and ``other(...)``, lists of
    tensors.

    In single precision some models magnify rounding, in whichever way they are run (a norm over two numbers that are
    nearly 0). The tolerance therefore grows with the error of ``other`` itself against double precision.
    """
    controller = build(name, dtype, horizon)
    ones, others = one(controller, x, state), other(controller, x, state)
    truths = others
    if dtype == torch.float32:
        exact = copy.deepcopy(controller).double()
        truths = other(
            exact, x.double(), map_state(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, state)
        )
    for got, expected, truth in zip(ones, others, truths, strict=True):
        scale = max(1.0, float(truth.detach().abs().max()))
        error = float((expected.detach() - truth.detach()).abs().max()) / scale
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=TOLERANCE[dtype] + 4 * error)


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

    def whole(controller, x, state):
        return run_and_differentiate(controller, lambda x, s: controller.forward_sequence(x, s, is_first), x, state)

    def loop(controller, x, state):
        default = Controller.forward_sequence
        return run_and_differentiate(controller, lambda x, s: default(controller, x, s, is_first), x, state)

    assert_same(name, dtype, whole, loop, x, noise_state(build(name, dtype, horizon), x.shape[1]), horizon)


@every_controller
@both_dtypes
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 10**6))
def test_law_2_packed_episodes_equal_episodes_apart(name, dtype, lengths, seed):
    torch.manual_seed(seed)
    is_first = torch.cat([torch.arange(length).unsqueeze(1) == 0 for length in lengths])

    def packed(controller, x, state):
        features, last = controller.forward_sequence(x, state, is_first)
        return [features, *leaves(last)]

    def apart(controller, x, state):
        no_reset = torch.zeros(max(lengths), 1, dtype=torch.bool)
        runs = [
            controller.forward_sequence(episode, controller.init_state(1), no_reset[: len(episode)])
            for episode in x.split(lengths)
        ]
        return [torch.cat([features for features, _ in runs]), *leaves(runs[-1][1])]

    x = torch.randn(sum(lengths), 1, INPUT, dtype=dtype)
    assert_same(name, dtype, packed, apart, x, noise_state(build(name, dtype), 1))


@every_controller
@both_dtypes
@given(case=sequences(), cut=st.integers(1, 11))
def test_law_3_cut_anywhere_and_carried_equals_the_whole(name, dtype, case, cut):
    x, is_first = make_sequence(case, dtype)

    def whole(controller, x, state):
        return run_and_differentiate(controller, lambda x, s: controller.forward_sequence(x, s, is_first), x, state)

    def in_two(controller, x, state):
        def run(x, state):
            features = []
            for part, first in [(x[:cut], is_first[:cut]), (x[cut:], is_first[cut:])]:
                if len(part):
                    feature, state = controller.forward_sequence(part, state, first)
                    features.append(feature)
            return torch.cat(features), state

        return run_and_differentiate(controller, run, x, state)

    assert_same(name, dtype, in_two, whole, x, noise_state(build(name, dtype), x.shape[1]))


@every_controller
@given(case=sequences(), at=st.integers(0, 11))
def test_law_4_future_inputs_never_change_past_outputs(name, case, at):
    x, is_first = make_sequence(case, torch.float64)
    at = min(at, len(x) - 1)
    controller = build(name)
    state = noise_state(controller, x.shape[1])
    changed = x.clone()
    changed[at:] += torch.randn_like(changed[at:])
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
