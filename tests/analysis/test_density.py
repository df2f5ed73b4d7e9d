"""The density of recall: success by the distance of what is asked."""

import itertools
import sys

import pytest
import torch

from memsuite.analysis.density import BINS, by_distance, recall_density
from memsuite.analysis.retention_shown import density_of
from memsuite.metrics import wilson_interval
from memsuite.module import MemoryPPO
from memsuite.rl import stream


def test_every_distance_has_its_own_row_where_they_are_few():
    rows = by_distance(torch.tensor([True, False, True, True]), torch.tensor([3, 3, 9, 9]), torch.arange(4))
    assert [(row["nearest"], row["farthest"], row["success"], row["decisions"]) for row in rows] == [
        (3, 3, 0.5, 2),
        (9, 9, 1.0, 2),
    ]


def test_many_distances_share_rows_and_none_is_lost():
    distance = torch.arange(1000)
    rows = by_distance(distance < 500, distance, distance)
    assert len(rows) == BINS
    assert sum(row["decisions"] for row in rows) == 1000
    assert [row["success"] for row in rows] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert (rows[0]["nearest"], rows[-1]["farthest"]) == (0, 999)
    assert all(one["farthest"] + 1 == other["nearest"] for one, other in itertools.pairwise(rows))


def test_decisions_of_one_episode_are_no_more_than_their_memory():
    """256 episodes, 10 decisions each: all right or all wrong they are 256 decisions, drawn apart they are 2,560."""
    episode = torch.arange(256).repeat_interleave(10)
    drawn = torch.rand(2560, generator=torch.Generator().manual_seed(0)) < 0.6
    for right, decisions in ((drawn[:256].repeat_interleave(10), 256), (drawn, 2560)):
        (row,) = by_distance(right, torch.zeros(2560), episode)
        low, high = wilson_interval(row["success"], decisions)
        assert (row["success_low"], row["success_high"]) == pytest.approx((low, high), abs=0.003)
    (row,) = by_distance(torch.ones(2560, dtype=torch.bool), torch.zeros(2560), episode)
    assert row["success_low"] == wilson_interval(1.0, 256)[0]
    ones = torch.arange(256)
    (row,) = by_distance(drawn[:256], torch.zeros(256), ones)
    assert row["success_low"] == pytest.approx(wilson_interval(row["success"], 256)[0])


def small(task):
    return MemoryPPO(task=task, difficulty="easy", controller_args={"hidden_dim": 8}, num_envs=64, steps=3200)


def test_an_agent_is_asked_at_every_distance_of_its_task():
    module = small("growing_list")
    rows = recall_density(module, episodes=16)
    assert sum(row["decisions"] for row in rows) == 16 * 10
    assert rows[-1]["farthest"] == module.task.steps_to_remember()
    assert density_of({"density": rows, "trained_horizon": 50}).row_count == len(rows)


def test_what_is_measured_does_not_touch_the_agent_and_is_the_same_again():
    module = small("growing_list")
    module.model.train()
    torch.manual_seed(3)
    rows = recall_density(module, episodes=16)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert module.model.training
    assert rows == recall_density(module, episodes=16)


def test_it_agrees_with_the_decisions_of_the_whole_network():
    module, generator = small("multi_recall"), stream(0, "density")
    script = module.task.script(16, generator)
    first = torch.zeros_like(script.scored)
    first[0] = True
    with torch.no_grad():
        logits, _, _ = module.model.eval()(script.observations, module.model.init_state(16), first)
    right = (logits.argmax(-1) == script.targets)[script.scored]
    distance = (torch.arange(50).unsqueeze(1) - module.task.shown_at(script))[script.scored]
    episode = torch.arange(16).expand_as(script.scored)[script.scored]
    assert recall_density(module, episodes=16) == by_distance(right, distance, episode)


def test_of_very_long_episodes_there_are_fewer(monkeypatch):
    monkeypatch.setattr(sys.modules["memsuite.rl.evaluate"], "MOST_STEPS", 150)
    assert sum(row["decisions"] for row in recall_density(small("growing_list"))) == 3 * 10


@pytest.mark.parametrize("task", ["state_tracking", "distractor_nav"])
def test_a_task_without_one_item_has_none(task):
    assert recall_density(small(task), episodes=4) is None
    assert density_of({"density": None, "trained_horizon": 50}) is None
