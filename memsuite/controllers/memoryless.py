"""A negative control: a network that reads the present observation and has no memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memsuite.controllers.base import ZeroBegin
from memsuite.types import State


class Memoryless(ZeroBegin):
    """Two layers on the present observation, :math:`W_2 silu(W_1 x_t + b_1) + b_2`, without any memory.

    It is not a model for comparisons. If it scores above a task's memoryless anchor, there is a leak in the task, the
    rollout or the evaluation. It is named by its path, ``memsuite.controllers.memoryless.Memoryless``
    (``configs/suites/controls_v1.yaml``).

    State: one zero, which is never read; a state must hold at least one number. Cost per step:
    ``hidden_dim (input_dim + hidden_dim)`` multiply-adds.

    Args:
        input_dim: width of the input.
        hidden_dim: width of both layers.
    """

    def __init__(self, input_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.first, self.second = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, 1]``."""
        weight = self.first.weight
        return torch.zeros(batch_size, 1, device=device or weight.device, dtype=weight.dtype)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step; the state is returned unchanged."""
        return self.second(F.silu(self.first(x_BD))), state

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Read all steps at once."""
        feature_TBD, _ = self.forward_step(x_TBD, state)
        return feature_TBD, self.reset_mask(state, is_first_TB.any(0))
