"""The check finds planted faults, names where they are, and passes what is sound."""

import json
import re
from pathlib import Path

import pytest
import torch
from faulty import FAULTS, Sound
from hidden import HIDDEN, Leaky
from planted import PLANTED
from torch import nn

from memsuite.__main__ import main
from memsuite.controllers import CONTROLLERS, Controller, make_controller
from memsuite.controllers.base import ZeroBegin
from memsuite.errors import UsageError
from memsuite.laws import LAWS, check
from memsuite.laws.compare import episode_of


def test_a_sound_controller_breaks_no_law():
    report = check(Sound(9), horizons=[10], cost=True)
    assert report.holds, report.findings
    assert list(report.findings) == list(LAWS)
    assert 0 < report.retention[10] < 1
    assert all(0 < cost < 1e5 for cost in report.microseconds.values())


@pytest.mark.parametrize("cls", [*FAULTS, *PLANTED, *HIDDEN], ids=lambda cls: cls.__name__)
def test_a_planted_fault_is_found_and_placed(cls):
    law, words = (FAULTS | PLANTED | HIDDEN)[cls]
    finding = check(cls(5), laws=[law]).findings[law]  # the others would take most of the time
    assert not finding.holds
    assert words in finding.where, finding
    assert "\n" not in finding.where


def test_what_the_hidden_faults_are_changes_of_is_sound():
    report = check(Leaky(5))
    assert report.holds, report.findings


class BatchFirst(Sound):
    """Computes a sequence with the batch first, as many libraries do, and returns a transposed view of it."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        features, state = super().forward_sequence(x_TBD, state, is_first_TB)
        return features.transpose(0, 1).contiguous().transpose(0, 1), state


def test_the_layout_of_the_features_in_memory_does_not_matter():
    report = check(BatchFirst(5))
    assert report.holds, report.findings


def test_the_gradient_of_a_parameter_is_named():
    class Frozen(Sound):
        def sequence_step(self, x, state):
            features, after = self.forward_step(x, state)
            return features.detach() + self.now(x) - self.now(x).detach(), after

    where = check(Frozen(5), laws=["both modes agree"]).findings["both modes agree"].where
    assert where.startswith("gradient of"), where


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_built_in_controller_passes(name):
    report = check(make_controller(name, input_dim=9, hidden_dim=16, memory_horizon=20))
    assert report.holds, {law: report.findings[law] for law in report.broken()}


DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = [
    (page, block)
    for page in ("extending.md", "compare.md", "controllers.md")
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    if "def init_state" in block
]


@pytest.mark.parametrize(("page", "block"), WRITTEN, ids=[f"{page}-{at}" for at, (page, _) in enumerate(WRITTEN)])
def test_the_controllers_that_the_docs_show_keep_all_laws(page, block):
    room = {"__name__": "shown"}
    exec(compile(block, page, "exec"), room)
    (shown,) = [one for one in room.values() if isinstance(one, type) and one.__module__ == "shown"]
    report = check(shown(input_dim=9, hidden_dim=16))
    assert report.holds, {law: report.findings[law] for law in report.broken()}


def test_there_are_controllers_in_the_docs():
    assert len(WRITTEN) == 4


def test_a_law_that_raises_is_broken_and_says_why():
    class Fragile(Sound):
        def forward_sequence(self, x_TBD, state, is_first_TB):
            if len(x_TBD) > 1:
                raise ValueError("too long for me")
            return super().forward_sequence(x_TBD, state, is_first_TB)

    report = check(Fragile(5))
    assert "too long for me" in report.findings["both modes agree"].where
    assert not report.holds


def test_an_input_that_no_gradient_can_reach_breaks_no_law():
    """Symbols are read by their number, and a feature may be of the state before the step: nothing is detached."""

    class Symbols(Sound):
        def __init__(self, input_dim):
            super().__init__(input_dim)
            self.table = nn.Embedding(input_dim, input_dim)

        def forward_step(self, x_BD, state):
            return super().forward_step(self.table(x_BD.argmax(-1)), state)

    class Delayed(ZeroBegin):
        def __init__(self, input_dim):
            super().__init__()
            self.input_dim, self.feature_dim = input_dim, 4
            self.write, self.read = nn.Linear(input_dim, 4), nn.Linear(4, 4)

        def init_state(self, batch_size, device=None):
            return torch.zeros(batch_size, 4, dtype=self.write.weight.dtype)

        def forward_step(self, x_BD, state):
            return self.read(state), 0.9 * state + self.write(x_BD)

    for cls in (Symbols, Delayed):
        finding = check(cls(5), laws=["the gradient is the slope"]).findings["the gradient is the slope"]
        assert finding.holds, (cls, finding.where)


def test_a_state_that_is_detached_in_part_is_found():
    class HalfDetached(Sound):
        def forward_step(self, x_BD, state):
            held = state["held"]
            return super().forward_step(x_BD, {**state, "held": torch.cat([held[:, :4].detach(), held[:, 4:]], 1)})

    assert not check(HalfDetached(5), laws=["the gradient is the slope"]).findings["the gradient is the slope"].holds


def test_features_of_another_width_than_declared_are_named():
    class Narrow(Sound):
        def forward_step(self, x_BD, state):
            features, after = super().forward_step(x_BD, state)
            return features[:, :3], after

    finding = check(Narrow(5), laws=["both modes agree"]).findings["both modes agree"]
    assert not finding.holds
    assert "feature_dim asks for [1, 2, 8]" in finding.where


def test_a_controller_that_always_raises_has_a_report_too():
    class Broken(Sound):
        def forward_step(self, x_BD, state):
            raise ValueError("boom")

    report = check(Broken(9), horizons=(20,), cost=True)
    assert "boom" in report.findings["both modes agree"].where
    assert (report.retention, report.microseconds) == ({}, {})


def test_a_check_changes_neither_the_controller_nor_the_generator():
    controller = make_controller("gru", input_dim=5, hidden_dim=8).train()
    before, seed = {name: one.clone() for name, one in controller.state_dict().items()}, torch.random.get_rng_state()
    check(controller)
    assert torch.equal(seed, torch.random.get_rng_state())
    assert controller.training
    assert all(torch.equal(one, before[name]) for name, one in controller.state_dict().items())
    assert all(parameter.grad is None for parameter in controller.parameters())


def test_an_episode_is_counted_within_its_row():
    is_first = torch.tensor([[False], [True], [False], [True]])
    assert episode_of(is_first, 0, 0) == "step 0 of the episode that was carried in"
    assert episode_of(is_first, 2, 0) == "step 1 of episode 1"
    assert episode_of(is_first, 3, 0) == "step 0 of episode 2"


def run(capsys, *words):
    status = main(["check", *words])
    return status, capsys.readouterr()


def test_the_verb_ends_with_status_1_where_a_law_is_broken(capsys, monkeypatch):
    status, out = run(capsys, "faulty.GradientCut", "--hidden_dim", "8", "--input_dim", "9", "--json")
    (found,) = json.loads(out.out)
    assert (status, found["name"], found["holds"]) == (1, "faulty.GradientCut", False)
    assert found["laws"]["both modes agree"]["where"].startswith("gradient of")
    assert found["laws"]["resets erase"]["holds"]


def test_the_verb_shows_every_law_and_passes_what_is_sound(capsys):
    status, out = run(capsys, "faulty.Sound", "--hidden_dim", "8", "--horizons", "10")
    assert status == 0
    assert all(law in out.out for law in LAWS)
    assert "retention after 10 steps" in out.out
    assert "a step" in out.out


def test_several_controllers_have_a_line_each(capsys):
    status, out = run(capsys, "faulty.Sound", "faulty.GrowingCache", "gru", "--hidden_dim", "8")
    assert status == 1
    lines = {line.split()[0]: line for line in out.out.splitlines() if line.strip()}
    assert "all hold" in lines["faulty.Sound"]
    assert "BROKEN" in lines["faulty.GrowingCache"]
    assert "the state is bounded" in out.out
    assert "all hold" in lines["gru"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gruu"], "did you mean: gru"),
        (["gru", "--depht", "2"], "did you mean: --depth"),
        (["gru", "--horizons", "none,2"], "whole numbers"),
        (["gru", "--input_dim", "0"], "above 0"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, words, message):
    status, out = run(capsys, *words)
    assert status == 2
    assert message in out.err
    assert out.err.count("\n") == 1


def test_the_class_of_the_laws_is_a_controller_as_the_guide_says():
    assert all(issubclass(cls, Controller) for cls in FAULTS)


def test_a_law_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UsageError, match="no law 'reset erases'; did you mean: resets erase"):
        check(Sound(5), laws=["reset erases"])
