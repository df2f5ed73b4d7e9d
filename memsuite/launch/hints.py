"""What a user should know of a model of their own before a long run: whether it can remember at all when it begins."""

from __future__ import annotations

import contextlib
import logging
import time

import torch

from memsuite.analysis.retention import CUES, retention
from memsuite.controllers import CONTROLLERS, Controller
from memsuite.controllers.copies import copied
from memsuite.module import MemoryPPO

LEAST = 0.05  # of the retention; a policy learns from 0.1 and not from 0.01
FACTOR, PATIENCE = 5, 0.04  # from one horizon that is measured to the next; CPU seconds after which the next is not
HINT = (
    "memsuite: %s begins with a retention of %.3f after %s of this task; a policy hardly learns from less than 0.1: "
    "initialise it for its memory_horizon (docs/extending.md)"
)
log = logging.getLogger("memsuite")


def hint_at_retention(module: MemoryPPO) -> None:
    """Warn of a controller that keeps nearly nothing over the steps of its task at initialisation.

    The models of memsuite are initialised for their horizon and are not measured. A controller that cannot be measured
    is left to the trial of the run, which says what is wrong with it.
    """
    name, steps = module.config.controller, module.task.steps_to_remember()
    if name in CONTROLLERS or steps < 2 or module.env_steps or module.config.init_from:
        return
    with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]):
        controller = copied(module.model.controller).eval()
        if controller.input_dim > CUES and (found := where_it_is_lost(controller, steps)):
            after, held = found
            log.warning(HINT, name, held, f"the {steps} steps" if after == steps else f"{after} of the {steps} steps")


def where_it_is_lost(controller: Controller, steps: int) -> tuple[int, float] | None:
    """Return after how many steps a memory holds less than :data:`LEAST`, and how much; None if it is not seen to.

    Short horizons are measured first, which is quick: what is lost by then stays lost. A model that reads step by step
    and holds long is not measured to its end, which would take longer than a hint is worth.

    Args:
        controller: the model.
        steps: that the task asks it to remember.
    """
    horizon, begun = max(2, min(steps, 50)), time.process_time()
    while (held := retention(controller, horizon)) >= LEAST:
        if horizon == steps or time.process_time() - begun > PATIENCE:
            return None
        horizon = min(steps, FACTOR * horizon)
    return horizon, held
