"""What a user brings is tried before a run begins, by a few steps of everything: no run ends without a result."""

from __future__ import annotations

import logging
from typing import cast

import torch

from memsuite.blame import home_of
from memsuite.controllers.base import is_own
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.randomness import own_randomness
from memsuite.rl.resolve import shares_scripts
from memsuite.runs import RunConfig
from memsuite.runs.ppo import ResolvedPPO
from memsuite.runs.recipes import GYM
from memsuite.tasks import TASKS, Task
from memsuite.trial.controller import try_controller
from memsuite.trial.task import try_task

log = logging.getLogger("memsuite")
SEED = 1


def try_out(
    config: RunConfig, task: Task, model: ActorCritic, device: torch.device, precision: str = "32-true"
) -> None:
    """Try a task and a controller of the user's own on copies; what is built in is known to work.

    Args:
        config: the settings of the run.
        task: what is trained on.
        model: the network.
        device: where the run will be.
        precision: of the run, as Lightning names it.

    Raises:
        UsageError: one line that names the class, where it stands, and what is wrong.
    """
    with own_randomness(SEED):
        if config.task not in TASKS:
            for note in try_task(
                config.task + ("" if config.task.startswith(GYM) else home_of(type(task))), task, device
            ):
                log.warning(note)
        if is_own(model.controller):
            who = f"controller {config.controller}{home_of(type(model.controller))}"
            ppo = cast(ResolvedPPO, config.ppo)
            one_pass = shares_scripts(config) and ppo.epochs == 1
            for note in try_controller(who, model, task, ppo, one_pass, device, precision):
                log.warning(note)
