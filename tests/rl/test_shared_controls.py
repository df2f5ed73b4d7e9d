"""Nothing leaks through shared scripts, draws or supervision: a model without memory stays at its anchor."""

import lightning.pytorch as pl
import pytest

from memsuite.launch.trainer import TRAINER_DEFAULTS, quiet_lightning
from memsuite.module import MemoryPPO
from memsuite.tasks import TASKS, make_task

ENVS, ITERATIONS, EPISODES = 512, 30, 512
MEMORYLESS = "memsuite.controllers.memoryless.Memoryless"


class Quiet(MemoryPPO):
    """A module that writes no metrics."""

    def log_row(self, row):
        pass


def train(controller, task, objective, **more):
    quiet_lightning()
    horizon = make_task(task, "easy").horizon
    settings = {"controller": controller, "task": task, "difficulty": "easy", "num_envs": ENVS, "objective": objective}
    module = Quiet(**settings, steps=ITERATIONS * ENVS * horizon, **more)
    pl.Trainer(**{**TRAINER_DEFAULTS, "accelerator": "cpu", "limit_val_batches": 0}).fit(module)
    return module


@pytest.mark.parametrize("objective", ["ppo", "supervised"])
@pytest.mark.parametrize("task", TASKS)
def test_without_memory_nothing_is_above_chance(task, objective):
    module = train(MEMORYLESS, task, objective)
    anchors = module.task.anchors()
    found = module.evaluate(EPISODES, "test")["success"]
    error = (anchors.memoryless * (1 - anchors.memoryless) / EPISODES) ** 0.5
    assert found <= anchors.memoryless + 4 * error


@pytest.mark.parametrize("objective", ["ppo", "supervised"])
def test_with_memory_it_is_soon_far_above_it(objective):
    """The control of the control: the same training of a model that has a memory."""
    module = train("lru", "delayed_cue", objective)
    assert module.evaluate(EPISODES, "test")["success"] > 0.9
