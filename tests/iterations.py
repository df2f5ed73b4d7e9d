"""Iterations of training without a trainer, on any device: what the tests of hidden waits have in common."""

from types import SimpleNamespace

from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig
from memsuite.rl.optimizer import make_optimizer
from memsuite.rl.saved.resume import open_streams
from memsuite.rl.streams import envs_per_process
from memsuite.rl.update import Update

# How a run learns.
WAYS = {"shared": {}, "separate": {"ppo": PPOConfig(draws=1)}, "supervised": {"objective": "supervised"}}


def module_of(task, **settings):
    """Build a small run."""
    usual = {"difficulty": "easy", "controller": "gru", "controller_args": {"hidden_dim": 16}, "num_envs": 64}
    return MemoryPPO(task=task, steps=6_400_000, **usual | settings)


def prepared(monkeypatch, module, device):
    """Start the episodes of a run on the device, with an optimiser of its own in place of the trainer's."""
    module._generators = open_streams(0, device)
    module._act(envs_per_process(module.num_envs, 1, module.ppo) // module.ppo.draws, None)
    own = make_optimizer(module.model, module.ppo)
    optimizer = SimpleNamespace(optimizer=own, step=own.step, zero_grad=own.zero_grad)
    groups = [list(module.model.parameters())]
    update = Update(groups, optimizer, lambda loss: loss.backward(), module.guard, module.ppo.max_grad_norm)
    monkeypatch.setattr(module, "_step", lambda: update)


def iterate(module):
    """Collect a rollout and learn from it; return the statistics, on the device."""
    return module._learn_from_shared() if module.shares else module._learn_from_trajectory()
