"""What a memory holds before any training: the first thing to know about a model at a horizon."""

from __future__ import annotations

import torch
from torch import nn

from memsuite.controllers import Controller
from memsuite.controllers.base import forward_in_blocks

CUES = 8
BLOCK = 1024  # steps read at once, so that the longest horizons need no more memory than the state


@torch.no_grad()
def retention(controller: Controller, horizon: int) -> float:
    """Measure how much of the feature at a query depends on a cue shown ``horizon`` steps before.

    Each of :data:`CUES` rows is shown a cue of its own (a one-hot of the first channels) at the first step, then blank
    steps, then at step ``horizon`` the same query (the last channel). The answer is the norm of the part that differs
    between rows over the norm of the whole, of the features as the policy head reads them, each brought to unit size:
    0 if nothing of the cue is left, about 1 if there is nothing else. A policy can learn from 0.1 and does not
    from 0.01.

    Args:
        controller: the model, ``input_dim`` at least :data:`CUES` + 1.
        horizon: steps of the episode, at least 2.
    """
    x = torch.zeros(horizon, CUES, controller.input_dim)
    x[0, :, :CUES] = torch.eye(CUES)
    x[-1, :, -1] = 1.0
    is_first = torch.zeros(horizon, CUES, dtype=torch.bool)
    is_first[0] = True
    features, _ = forward_in_blocks(controller, x, controller.init_state(CUES), is_first, BLOCK)
    feature = nn.functional.rms_norm(features[-1], features.shape[-1:], eps=1e-8)
    return float((feature - feature.mean(0)).norm() / feature.norm())
