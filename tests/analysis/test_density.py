"""The density of recall: success by the distance of what is asked."""

import itertools

import pytest
import torch

from memsuite.analysis.density import BINS, by_distance, recall_density
from memsuite.analysis.retention_shown import density_of
from memsuite.module import MemoryPPO


def test_every_distance_has_its_own_row_where_they_are_few():
    rows = by_distance(torch.tensor([True, False, True, True]), torch.tensor([3, 3, 9, 9]))
    assert [(row["nearest"], row["farthest"], row["success"], row["decisions"]) for row in rows] == [
        (3, 3, 0.5, 2),
        (9, 9, 1.0, 2),
    ]


def test_many_distances_share_rows_and_none_is_lost():
    distance = torch.arange(1000)
    rows = by_distance(distance < 500, distance)
    assert len(rows) == BINS
    assert sum(row["decisions"] for row in rows) == 1000
    assert [row["success"] for row in rows] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert (rows[0]["nearest"], rows[-1]["farthest"]) == (0, 999)
    assert all(one["farthest"] + 1 == other["nearest"] for one, other in itertools.pairwise(rows))


def small(task):
    return MemoryPPO(task=task, difficulty="easy", controller_args={"hidden_dim": 8}, num_envs=64, steps=3200)


def test_an_agent_is_asked_at_every_distance_of_its_task():
    module = small("growing_list")
    rows = recall_density(module, episodes=16)
    assert sum(row["decisions"] for row in rows) == 16 * 10
    assert rows[-1]["farthest"] == module.task.steps_to_remember()
    assert density_of({"density": rows, "trained_horizon": 50}).row_count == len(rows)


@pytest.mark.parametrize("task", ["state_tracking", "distractor_nav"])
def test_a_task_without_one_item_has_none(task):
    assert recall_density(small(task), episodes=4) is None
    assert density_of({"density": None, "trained_horizon": 50}) is None
