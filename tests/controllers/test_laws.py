"""The five laws of controllers, for every registered controller, in float32 and float64, from a state of noise."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memsuite.controllers import CONTROLLERS, Controller, make_controller
from memsuite.controllers.base import ZeroBegin
from memsuite.laws import influences, memory, modes, slopes
from memsuite.laws.cases import make_case, named_leaves

INPUT, HIDDEN = 5, 8


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
    "gated_deltanet, negative eigenvalues": {"negative_eigenvalues": True},
    "mamba2, negative eigenvalues": {"negative_eigenvalues": True, "dt_min": 0.5, "dt_max": 2.0},
    "mamba3, 2 heads of 8 channels": {"headdim": 8, "d_state": 4},
    "kda, negative eigenvalues": {"negative_eigenvalues": True},
    "gated_deltaproduct, 3 edits of 2 heads": {"num_edits": 3, "num_heads": 2},
    "gtrxl, 3 steps of context in chunks of 2": {"context_length": 3, "chunk": 2},
    "gtrxl, no gradient beyond a segment of 3 steps": {"gradient_window": 3, "context_length": 7},
    "fox, 3 steps of context in chunks of 2": {"context_length": 3, "chunk": 2},
    "hyena, 3 steps of context": {"context_length": 3},
    "memsuite.controllers.memoryless.Memoryless": {},
    f"{__name__}.Leaky": {},
    f"{__name__}.Leaky, 3 layers": {"depth": 3},
}
every_controller = pytest.mark.parametrize("name", [*CONTROLLERS, *VARIANTS])
# A third of the cases elsewhere, because every law is tried with every controller: 8, or 33 in `make test-slow`.
# The check of every controller (tests/laws/test_check.py) tries the same laws on sequences that are always the same.
fewer = settings(max_examples=settings().max_examples // 3)
horizons = pytest.mark.parametrize("horizon", [None, 50], ids=["default", "horizon_aware"])


def build(name: str, dtype: torch.dtype = torch.float64, horizon: int | None = None) -> Controller:
    arguments = {"input_dim": INPUT, "hidden_dim": HIDDEN, "memory_horizon": horizon, **VARIANTS.get(name, {})}
    return make_controller(name.split(",")[0], **arguments).to(dtype)


@st.composite
def sequences(draw):
    """Draw a length, a batch, a seed and the probability of a reset."""
    return (
        draw(st.integers(1, 12)),
        draw(st.integers(1, 4)),
        draw(st.integers(0, 10**6)),
        draw(st.sampled_from([0, 0.3, 1])),
    )


def drawn(controller, case):
    """Make a case of drawn numbers, from a state of noise."""
    steps, rows, seed, probability = case
    torch.manual_seed(seed)
    return make_case(controller, steps, rows, probability)


def holds(finding):
    assert finding.holds, finding


@every_controller
@both_dtypes
@horizons
@fewer
@given(case=sequences())
def test_law_1_sequence_equals_loop_of_steps(name, dtype, horizon, case):
    controller = build(name, dtype, horizon)
    holds(modes.modes_agree(controller, drawn(controller, case)))


@pytest.mark.parametrize("name", [name for name, cls in CONTROLLERS.items() if cls.abilities.state != "window"])
def test_law_1_holds_for_a_long_wait_under_autocast(name):
    """Half precision must not reach the recurrence: at its rounding, a slow memory forgets or never does."""
    controller = make_controller(name, input_dim=INPUT, hidden_dim=16, memory_horizon=200)
    x = torch.zeros(200, 2, INPUT)
    x[0, 0, 0] = x[0, 1, 1] = 1.0
    first, state = torch.zeros(200, 2, dtype=torch.bool), controller.init_state(2)
    with torch.no_grad():
        expected, _ = controller.forward_sequence(x, state, first)
        with torch.autocast("cpu", torch.bfloat16):
            at_once, after = controller.forward_sequence(x, state, first)
            stepped, stepped_after = Controller.forward_sequence(controller, x, state, first)
    size = float(expected[-1].abs().max())
    for found in (at_once, stepped):
        assert float((found[-1] - expected[-1]).abs().max()) < 0.05 * size
    kinds = [{key: leaf.dtype for key, leaf in named_leaves(one).items()} for one in (state, after, stepped_after)]
    assert kinds[0] == kinds[1] == kinds[2]


@every_controller
@both_dtypes
@fewer
@given(case=sequences())
def test_law_2_packed_episodes_equal_episodes_apart(name, dtype, case):
    controller = build(name, dtype)
    holds(modes.episodes_are_apart(controller, drawn(controller, case)))


@every_controller
@both_dtypes
@fewer
@given(case=sequences(), cut=st.integers(1, 11))
def test_law_3_cut_anywhere_and_carried_equals_the_whole(name, dtype, case, cut):
    controller = build(name, dtype)
    case = drawn(controller, case)
    if cut < case.steps:
        holds(modes.cuts_are_carried(controller, case, [cut]))


@every_controller
@fewer
@given(case=sequences())
def test_law_4_future_inputs_never_change_past_outputs(name, case):
    controller = build(name)
    case = drawn(controller, case)
    holds(influences.the_future_is_unseen(controller, case))
    one, _ = controller.forward_sequence(case.x, case.state, case.is_first)
    other, _ = controller.forward_sequence(torch.randn_like(case.x), case.state, case.is_first)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("observed", "cut"), [(float("nan"), None), (float("inf"), 15)], ids=["whole", "cut"])
@every_controller
def test_law_4_an_observation_that_is_not_finite_stays_in_its_episode_and_out_of_the_past(name, cut, observed):
    """A zero weight times NaN is NaN, so a product over all steps of a row would pass it on."""
    controller = build(name)
    case = drawn(controller, (32, 2, 0, 0))
    case.is_first[[0, 10, 20], 0] = case.is_first[[0, 16], 1] = True
    spoilt = case.x.clone()
    spoilt[13, 0] = observed
    expected, state = _in_two(controller.forward_sequence, case.x, case, cut)
    features, after = _in_two(controller.forward_sequence, spoilt, case, cut)
    stepped, _ = _in_two(partial(Controller.forward_sequence, controller), spoilt, case, cut)
    reached = torch.zeros_like(case.is_first)
    reached[13:20, 0] = True  # what a model may make of it, up to the end of the episode
    assert not features[reached].isfinite().all()
    assert torch.allclose(features[~reached], expected[~reached], rtol=0, atol=1e-10)
    assert torch.equal(features.isfinite().all(-1), stepped.isfinite().all(-1))
    assert all(torch.allclose(leaf, named_leaves(state)[key]) for key, leaf in named_leaves(after).items())


def _in_two(read, x, case, cut):
    """Read a sequence, at once or in two parts."""
    if cut is None:
        return read(x, case.state, case.is_first)
    early, state = read(x[:cut], case.state, case.is_first[:cut])
    late, state = read(x[cut:], state, case.is_first[cut:])
    return torch.cat([early, late]), state


@every_controller
@fewer
@given(case=sequences())
def test_law_4_nothing_of_the_past_remains_after_a_reset(name, case):
    controller = build(name)
    holds(memory.resets_erase(controller, drawn(controller, case)))


@every_controller
def test_law_5_state_does_not_grow(name):
    controller = build(name)
    holds(memory.the_state_is_bounded(controller, drawn(controller, (9, 2, 0, 0.3))))
    assert (
        sum(leaf.numel() for leaf in named_leaves(controller.init_state(2)).values()) == 2 * controller.state_floats()
    )


@every_controller
@both_dtypes
@fewer
@given(case=sequences())
def test_rows_do_not_depend_on_each_other(name, dtype, case):
    controller = build(name, dtype)
    holds(influences.rows_are_apart(controller, drawn(controller, case)))


@every_controller
def test_a_float64_model_is_one_throughout(name):
    controller = build(name)
    holds(slopes.precision_is_kept(controller, drawn(controller, (12, 3, 0, 0.3))))
    holds(influences.the_same_twice(controller, drawn(controller, (12, 3, 1, 0.3))))
