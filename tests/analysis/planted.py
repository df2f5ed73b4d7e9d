"""Controllers built by hand, whose memory content and location are known."""

from __future__ import annotations

import torch

from memsuite.controllers import Controller
from memsuite.controllers.base import ZeroBegin

UNITS = slice(3, 7)  # where the planted memory stores one of four cues


class Planted(ZeroBegin):
    """Units 3 to 6 store the cue of the first step for ever; unit 0 counts; units 8 to 11 hold the latest symbol."""

    def __init__(self, input_dim: int, width: int = 12) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, width

    def init_state(self, batch_size, device=None):
        return {"units": torch.zeros(batch_size, self.feature_dim), "clock": torch.zeros(batch_size, dtype=torch.int64)}

    def forward_step(self, x_BD, state):
        units, first = state["units"].clone(), state["clock"] == 0
        units[:, UNITS] = torch.where(first[:, None], x_BD[:, :4], units[:, UNITS])
        units[:, 8:12] = x_BD[:, :4]
        units[:, 0] = state["clock"] / 10
        return units, {"units": units, "clock": state["clock"] + 1}


class Memoryless(Controller):
    """Returns its input as features, and keeps nothing."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = input_dim

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, 1)

    def forward_step(self, x_BD, state):
        return x_BD, state

    def reset_mask(self, state, is_first_B):
        return state
