"""Small agents for training in several processes."""

from __future__ import annotations

import lightning.pytorch as pl
from first_recipe import first_recipe

from memsuite.launch.trainer import TRAINER_DEFAULTS
from memsuite.module import MemoryPPO
from memsuite.rl.guard import UpdateGuard

ENVS, ITERATIONS, HORIZON = 8, 3, 12
SMALL = {
    "gru": {"hidden_dim": 8},
    "mamba": {"hidden_dim": 8, "d_state": 4},
    "transformer": {"hidden_dim": 8, "num_heads": 2, "context_length": 12},
}


def module_of(controller="gru", ppo=None, **overrides) -> MemoryPPO:
    settings = {
        "task": "delayed_cue",
        "difficulty": "easy",
        "horizon": HORIZON,
        "task_args": {"num_cues": 2, "vocabulary": 2},
        "controller": controller,
        "controller_args": SMALL.get(controller),
        "num_envs": ENVS,
        "steps": ENVS * HORIZON * ITERATIONS,
        "evaluation_episodes": 8,
        "ppo": ppo or first_recipe(epochs=2, minibatches=2),
    }
    return MemoryPPO(**{**settings, **overrides})


def fit(module: MemoryPPO, world: int, *callbacks: pl.Callback, **more) -> pl.Trainer:
    settings = {**TRAINER_DEFAULTS, "accelerator": "cpu", "devices": world, "limit_val_batches": 0, **more}
    trainer = pl.Trainer(**settings, callbacks=list(callbacks))
    trainer.fit(module)
    return trainer


def record_steps(steps: list) -> None:
    """Keep the clipped gradients, the loss terms' norm and the parameters of every optimiser step."""
    step = UpdateGuard.step

    def recording(self, optimizer, loss, norm, *idle):
        parameters = [p for group in optimizer.optimizer.param_groups for p in group["params"]]
        gradients = [p.grad.clone() for p in parameters]
        skipped = step(self, optimizer, loss, norm, *idle)
        after = [p.detach().clone() for p in parameters]
        steps.append({"loss": loss, "norm": norm, "gradients": gradients, "after": after})
        return skipped

    UpdateGuard.step = recording
