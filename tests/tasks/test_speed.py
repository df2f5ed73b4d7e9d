"""The speed of drawing scripts. Marked slow, because a busy machine is not a reason to fail."""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from memsuite.tasks import TASKS, ScriptedTask, make_task

SCRIPTED = [name for name, cls in TASKS.items() if issubclass(cls, ScriptedTask)]


def steps_per_cpu_second(name: str, horizon: int, num_envs: int) -> float:
    task, generator = make_task(name, "easy", horizon=horizon), torch.Generator().manual_seed(0)
    assert isinstance(task, ScriptedTask)
    seconds = []
    for _ in range(11):
        began = time.process_time()
        task.script(num_envs, generator)
        seconds.append(time.process_time() - began)
    return horizon * num_envs / statistics.median(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTED)
def test_twenty_million_steps_a_second_and_no_less_at_any_horizon(name):
    # The same number of steps at every horizon, so that memory costs the same.
    speeds = {
        horizon: steps_per_cpu_second(name, horizon, 200 * 1024 // horizon) for horizon in (50, 200, 1000, 20_000)
    }
    assert all(speed > 20e6 for speed in speeds.values())
    assert speeds[20_000] > speeds[200] / 2
