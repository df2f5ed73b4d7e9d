"""Long delays: equal to the bit where cycles are skipped, and equal to the plain evaluation."""

from types import SimpleNamespace

import pytest
import torch

from memsuite.analysis import waiting
from memsuite.analysis.retention import of_every_cue
from memsuite.analysis.waiting import same_bits, states_after, wait
from memsuite.controllers import CONTROLLERS, make_controller
from memsuite.controllers.base import ZeroBegin, forward_in_blocks
from memsuite.errors import UsageError
from memsuite.rl import evaluate
from memsuite.rl.actor_critic import make_actor_critic
from memsuite.tasks import delayed_cue
from memsuite.tasks.delayed_cue import DelayedCue


class Clock(ZeroBegin):
    """Counts its steps, and after ``period`` of them starts again, ``lead`` steps later than the first time."""

    def __init__(self, period, lead):
        super().__init__()
        self.input_dim = self.feature_dim = 1
        self.period, self.lead, self.steps_read = period, lead, 0

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, 1, dtype=torch.int64)

    def forward_step(self, x_BD, state):
        self.steps_read += 1
        after = state + 1
        return after.float(), torch.where(after == self.period + self.lead, self.lead, after)


@pytest.mark.parametrize(("period", "lead"), [(1, 0), (1, 37), (5, 0), (12, 100), (7, 3), (1000, 0)])
@pytest.mark.parametrize("steps", [0, 1, 4, 399, 2000, 2003])
def test_rounds_are_left_out_and_nothing_else(period, lead, steps, monkeypatch):
    monkeypatch.setattr(waiting, "BLOCK", 4)
    clock = Clock(period, lead)
    state = wait(clock, clock.init_state(2), torch.zeros(2, 1), steps)
    plain = steps if steps < lead else lead + (steps - lead) % period
    assert state.tolist() == [[plain]] * 2
    assert clock.steps_read <= steps
    if period < 1000:
        assert clock.steps_read <= 12 * (period + lead) + 8


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_wait_is_to_the_bit_what_reading_every_block_is(name):
    torch.manual_seed(0)
    controller, steps = make_controller(name, input_dim=9, hidden_dim=16, memory_horizon=20), 20 * waiting.BLOCK + 5
    state, blank = controller.init_state(3), torch.zeros(steps, 3, 9)
    with torch.no_grad():
        _, state = controller.forward_sequence(torch.randn(1, 3, 9), state, torch.ones(1, 3, dtype=torch.bool))
        no = torch.zeros(steps, 3, dtype=torch.bool)
        _, plain = forward_in_blocks(controller, blank, state, no, waiting.BLOCK)
    inside, widths = controller.forward_sequence, []
    controller.forward_sequence = lambda x, *rest: widths.append(x.shape[1]) or inside(x, *rest)
    found = wait(controller, state, blank[0], steps)
    # Rows that have become equal are read as one, and a product of one row may round differently from one of three.
    assert same_bits(found, plain) or 1 in widths
    torch.testing.assert_close(found, plain)


def test_a_memory_that_settles_is_soon_at_a_million():
    controller, read = make_controller("linear_attention", input_dim=9, hidden_dim=16, depth=1, memory_horizon=20), []
    inside = controller.forward_sequence
    controller.forward_sequence = lambda x, *rest: read.append(len(x)) or inside(x, *rest)
    assert len(list(states_after(controller, torch.eye(8, 9), [1_000_000]))) == 1
    assert sum(read) < 100_000


def test_rows_that_have_become_equal_are_read_as_one():
    controller, widths = make_controller("transformer", input_dim=9, hidden_dim=16, memory_horizon=20), []
    inside = controller.forward_sequence
    controller.forward_sequence = lambda x, *rest: widths.append(x.shape[1]) or inside(x, *rest)
    state = next(states_after(controller, torch.eye(8, 9), [10 * waiting.BLOCK]))
    assert widths == [8, 8] + [1] * 9
    assert state[0]["position"].tolist() == [10 * waiting.BLOCK + 1] * 8


def test_bits_are_compared_and_not_values():
    assert same_bits({"a": torch.tensor([float("nan")])}, {"a": torch.tensor([float("nan")])})
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


def test_waits_that_fall_are_refused():
    with pytest.raises(UsageError, match="rising order"):
        next(states_after(Clock(1, 0), torch.zeros(1, 1), [5, 3]))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_cue_once_is_the_plain_evaluation(name, monkeypatch):
    """The plain evaluation is made to draw each cue once, so both read the same episodes."""
    horizons = [2, 30, 700]
    tasks = [DelayedCue(horizon, num_cues=8) for horizon in horizons]
    generator = torch.Generator().manual_seed(3)
    arguments = {"hidden_dim": 16, "memory_horizon": 30}
    model = make_actor_critic(tasks[0], name, arguments, "observation", generator)
    with torch.no_grad():
        model.actor.bias[8:] = -1.0  # an untrained policy that names cues
    monkeypatch.setattr(delayed_cue, "integers", lambda high, shape, _: torch.arange(shape[0]) % high)
    plain = [evaluate(task, model, 8, generator)["success"] for task in tasks]
    found = list(of_every_cue(SimpleNamespace(model=model), tasks))
    assert [row["success"] for row in found] == pytest.approx(plain)
    assert all(row["episodes"] == 8 and row["success_low"] == row["success_high"] for row in found)


@pytest.mark.parametrize("more", [{"jitter": 2}, {"rewrite": 0.5}, {"noise": 0.1}])
def test_episodes_that_differ_in_more_than_the_cue_are_drawn(more):
    with pytest.raises(UsageError, match="one episode per cue"):
        next(of_every_cue(SimpleNamespace(model=None), [DelayedCue(20, num_cues=4, **more)]))
