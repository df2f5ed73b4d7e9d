"""What the built-in memories hold before any training: enough of a cue must be left for PPO to find."""

import pytest
import torch
from torch import nn

from memsuite.controllers import make_controller

INPUT, CUES = 17, 8
HOLDING = ["gru", "lstm", "pseudo_mamba", "mingru", "lru"]


@torch.no_grad()
def retention(name: str, horizon: int) -> float:
    """Return the norm of the between-cue part of the normalised feature at the query over the norm of the whole."""
    controller = make_controller(name, input_dim=INPUT, hidden_dim=64, memory_horizon=horizon)
    x = torch.zeros(horizon, CUES, INPUT)
    x[0, :, :CUES] = torch.eye(CUES)
    x[-1, :, -1] = 1.0
    is_first = torch.zeros(horizon, CUES, dtype=torch.bool)
    is_first[0] = True
    features, _ = controller.forward_sequence(x, controller.init_state(CUES), is_first)
    feature = nn.functional.rms_norm(features[-1], features.shape[-1:], eps=1e-8)
    return float((feature - feature.mean(0)).norm() / feature.norm())


@pytest.mark.parametrize("name", HOLDING)
@pytest.mark.parametrize("horizon", [200, 1000])
def test_a_tenth_is_retained_at_initialisation(name, horizon):
    assert retention(name, horizon) >= 0.1
