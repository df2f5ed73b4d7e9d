"""Iterations of training on a pretended accelerator: everything is there, and the host does not wait for it."""

import accelerator
import pytest
from iterations import WAYS, iterate, module_of, prepared

from memsuite.controllers import CONTROLLERS
from memsuite.rl import begin, collect, stream
from memsuite.tasks import TASKS


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("task", TASKS)
def test_an_iteration_stays_on_its_device(task, settings, monkeypatch):
    module = module_of(task, **settings)
    with accelerator.pretending(monkeypatch, module) as watch:
        prepared(monkeypatch, module, accelerator.device())
        iterate(module)
        watch.numbers = watch.shapes = watch.constants = 0
        statistics = iterate(module)
        assert statistics.device == accelerator.device()
        assert watch.constants == 0
        assert watch.shapes <= 1  # where the decisions of a minibatch are
        assert watch.numbers <= 1  # whether an episode begins with the rollout


@pytest.mark.parametrize("name", [name for name in CONTROLLERS if name != "hyena"])
def test_every_controller_walks_there(name, monkeypatch):
    network = {"controller": name, "controller_args": {"hidden_dim": 16, "depth": 1}}
    module = module_of("distractor_nav", **network, task_args={"horizon": 20})
    with accelerator.pretending(monkeypatch, module) as watch:
        prepared(monkeypatch, module, accelerator.device())
        iterate(module)
        watch.numbers = watch.shapes = watch.constants = 0
        iterate(module)
        assert watch.numbers == watch.constants == 0
        assert watch.shapes <= 1


@pytest.mark.parametrize("task", TASKS)
def test_acting_greedily_stays_on_its_device(task, monkeypatch):
    module = module_of(task)
    with accelerator.pretending(monkeypatch, module):
        generator = stream(0, "validation", accelerator.device())
        trajectory, _ = collect(module.task, module.model, begin(module.task, module.model, 8, generator), 50, None)
        assert trajectory.correct.device == accelerator.device()
