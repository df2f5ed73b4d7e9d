"""Iterations of training on a pretended accelerator: everything is there, and the host does not wait for it."""

from types import SimpleNamespace

import accelerator
import pytest

from memsuite.controllers import CONTROLLERS
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig, begin, collect, stream
from memsuite.rl.optimizer import make_optimizer
from memsuite.rl.saved.resume import open_streams
from memsuite.rl.streams import envs_per_process
from memsuite.rl.update import Update
from memsuite.tasks import TASKS


def prepared(watch, monkeypatch, module):
    """Start the episodes of a run, with an optimiser of its own in place of the trainer's."""
    module._generators = open_streams(0, accelerator.device())
    module._act(envs_per_process(module.num_envs, 1, module.ppo) // module.ppo.draws, None)
    own = make_optimizer(module.model, module.ppo)
    optimizer = SimpleNamespace(optimizer=own, step=own.step, zero_grad=own.zero_grad)
    groups = [list(module.model.parameters())]
    update = Update(groups, optimizer, lambda loss: loss.backward(), module.guard, module.ppo.max_grad_norm)
    monkeypatch.setattr(module, "_step", lambda: update)


def module_of(task, **settings):
    usual = {"difficulty": "easy", "controller": "gru", "controller_args": {"hidden_dim": 16}, "num_envs": 64}
    return MemoryPPO(task=task, steps=6_400_000, **usual | settings)


def iterate(module):
    return module._learn_from_shared() if module.shares else module._learn_from_trajectory()


@pytest.mark.parametrize(
    "settings", [{}, {"ppo": PPOConfig(draws=1)}, {"objective": "supervised"}], ids=["shared", "separate", "supervised"]
)
@pytest.mark.parametrize("task", TASKS)
def test_an_iteration_stays_on_its_device(task, settings, monkeypatch):
    module = module_of(task, **settings)
    with accelerator.pretending(monkeypatch, module) as watch:
        prepared(watch, monkeypatch, module)
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
        prepared(watch, monkeypatch, module)
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
