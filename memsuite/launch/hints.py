"""What a user should know of a model of their own before a long run: whether it can remember at all when it begins."""

from __future__ import annotations

import contextlib
import copy
import logging

import torch

from memsuite.analysis.retention import CUES, retention
from memsuite.controllers import CONTROLLERS
from memsuite.module import MemoryPPO

LEAST = 0.05  # of the retention; a policy learns from 0.1 and not from 0.01
LONGEST = 20_000  # steps; measuring more would take longer than a hint is worth
HINT = (
    "memsuite: %s begins with a retention of %.3f after the %d steps of this task; a policy hardly learns from less "
    "than 0.1: initialise it for its memory_horizon (docs/extending.md)"
)
log = logging.getLogger("memsuite")


def hint_at_retention(module: MemoryPPO) -> None:
    """Warn of a controller that keeps nearly nothing over the steps of its task at initialisation.

    The models of memsuite are initialised for their horizon and are not measured. A controller that cannot be measured
    is left to the trial of the run, which says what is wrong with it.
    """
    name, steps = module.config.controller, module.task.steps_to_remember()
    if name in CONTROLLERS or not 2 <= steps <= LONGEST or module.env_steps or module.config.init_from:
        return
    with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]):
        controller = copy.deepcopy(module.model.controller).eval()
        if controller.input_dim > CUES and (held := retention(controller, steps)) < LEAST:
            log.warning(HINT, name, held, steps)
