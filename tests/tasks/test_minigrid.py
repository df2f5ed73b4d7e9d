"""MiniGrid's MemoryS7 as it is shipped: the object of the first room is seen, and the text is left out."""

from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("minigrid", reason="needs memsuite-rl[peers]")

from memsuite.imports import also_in
from memsuite.tasks import get_task_config

SHIPPED = Path(__file__).parents[2] / "configs" / "tasks" / "minigrid_memory.yaml"
VIEW, KINDS = 7 * 7, 20  # cells, and the numbers that tell a cell's object, colour and state
WALL, KEY, BALL = 2, 5, 6


def test_the_object_of_the_first_room_is_seen():
    also_in(SHIPPED.parent)
    settings = yaml.safe_load(SHIPPED.read_text())
    task = get_task_config(settings["task"], "medium").make(horizon=settings["horizon"], **settings["task_args"])
    assert task.observation_dim == 4 + VIEW * KINDS  # the direction comes first
    now = task.reset(16, torch.Generator().manual_seed(0))
    assert torch.equal(now.observation[:, :4].sum(1), torch.ones(16))
    cells = now.observation[:, 4:].view(16, VIEW, KINDS)
    assert torch.equal(cells.sum(2), torch.full((16, VIEW), 3.0))  # of each cell an object, a colour and a state
    objects = cells[..., :11].sum(1)  # how often each kind of object is seen
    assert ((objects[:, KEY] + objects[:, BALL]) > 0).any()
    assert (objects[:, WALL] > 0).all()
