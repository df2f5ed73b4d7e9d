"""A user's controller with a parameter that takes no part in the loss."""

import torch

from memsuite.controllers import GRU


class Idle(GRU):
    """A GRU and a parameter that nothing uses."""

    def __init__(self, input_dim, hidden_dim=8, memory_horizon=None):
        super().__init__(input_dim, hidden_dim)
        self.idle = torch.nn.Parameter(torch.zeros(3))
