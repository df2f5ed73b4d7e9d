"""The retention of the built-in memories before training: enough of a cue must be left for PPO to find."""

import pytest
import torch

from memsuite.analysis.retention import retention
from memsuite.controllers import CONTROLLERS, Controller, make_controller
from memsuite.errors import UsageError


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("horizon", [200, 1000])
def test_a_tenth_is_retained_at_initialisation(name, horizon):
    controller = make_controller(name, input_dim=17, hidden_dim=64, memory_horizon=horizon)
    assert retention(controller, horizon) >= 0.1


@pytest.mark.parametrize(("name", "gain"), [("gru", 1.1), ("lstm", 1.0)])
def test_a_latch_holds_as_much_after_a_million_steps(name, gain):
    torch.manual_seed(0)
    latch = make_controller(name, input_dim=17, hidden_dim=64, memory_horizon=200, gain=gain)
    assert retention(latch, 1_000_000) >= 0.9 * retention(latch, 10_000) >= 0.45


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_gain_without_the_initialisation_it_belongs_to_is_refused(name):
    with pytest.raises(UsageError, match="needs a memory_horizon"):
        make_controller(name, input_dim=17, gain=1.2)


@pytest.mark.parametrize(("lag", "heads"), [(0, slice(0, 2)), (1, slice(2, 4))])
def test_a_query_of_gated_deltanet_finds_the_key_that_was_written(lag, heads):
    """Before any training, a repeated item retrieves the item that was written with it, or right after it."""
    torch.manual_seed(0)
    layer = make_controller("gated_deltanet", input_dim=16, hidden_dim=64, memory_horizon=200).layers[0]
    items = torch.randn(8, 64)
    stream = torch.zeros(8, 8, 64)  # one item per environment, then blanks
    stream[0] = items
    is_first = torch.zeros(8, 8, dtype=torch.bool)
    aside = layer.init_aside(8, items)
    with torch.no_grad():
        asked = layer.drive(stream, aside, is_first)[0].q[0, :, heads].flatten(1)
        written = layer.drive(stream, aside, is_first)[0].k[lag, :, heads].flatten(1)
    assert ((asked @ written.T).argmax(1) == torch.arange(8)).all()


class FirstInput(Controller):
    """Keeps an episode's first input and returns it beside the present one."""

    def __init__(self, input_dim: int, share: float) -> None:
        super().__init__()
        self.input_dim, self.feature_dim, self.share = input_dim, 2 * input_dim, share

    def init_state(self, batch_size, device=None):
        return torch.full((batch_size, self.input_dim), float("nan"))

    def forward_step(self, x_BD, state):
        state = torch.where(state.isnan(), x_BD, state)
        return torch.cat([self.share * state, x_BD], 1), state

    def reset_mask(self, state, is_first_B):
        return torch.where(is_first_B.unsqueeze(1), torch.nan, state)


@pytest.mark.parametrize("horizon", [2, 3000])
@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, (0.5 * 7 / 8) ** 0.5)])
def test_retention_is_the_share_of_the_feature_that_differs(horizon, share, expected):
    assert retention(FirstInput(9, share), horizon) == pytest.approx(expected, abs=1e-6)
