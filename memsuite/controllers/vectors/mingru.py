"""The minimal GRU (Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201): gates that never see the state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import VectorMemory
from memsuite.controllers.init import log_uniform_times
from memsuite.controllers.stack import stacked
from memsuite.ops import diagonal_scan, narrow_linear
from memsuite.types import State


class MinGRULayer(VectorMemory):
    r"""Minimal GRU: leaky integrators whose leak depends on the input alone.

    .. math::
        z = \sigma(W_z x + b_z), \quad \tilde h = s \odot W_h x, \quad h' = (1 - z) \odot h + z \odot \tilde h

    The recurrence is linear in the state, so a whole sequence is one scan. The candidate has no bias, so a blank input
    writes nothing. The constant :math:`s` is 1 by default. With a horizon it is :math:`(2 / z_0)^{1/2}`, with
    :math:`z_0 = \sigma(b_z)` at initialisation: the state then stays near unit size, although the gate for writing is
    as small as one over the horizon. The constant is not merged into ``W_h``, so that the weights learn at the usual
    rate.

    State: ``hidden_dim`` floats. Cost per step: ``2 hidden_dim input_dim`` multiply-adds and ``hidden_dim`` sigmoids.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features.
        memory_horizon: steps over which the initial weights should retain a state. The gates' biases are then minus the
            logarithms of times between one and four horizons, so that ``(1 - z)^horizon`` is 0.37 to 0.78. None for
            PyTorch's default initialisation.
    """

    abilities = Abilities("vector", by_input=True)

    write_scale: Tensor

    def __init__(self, input_dim: int, hidden_dim: int = 128, memory_horizon: int | None = None) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.gate = nn.Linear(input_dim, hidden_dim)
        self.candidate = nn.Linear(input_dim, hidden_dim, bias=False)
        self.register_buffer("write_scale", torch.ones(hidden_dim))
        if memory_horizon is not None:
            with torch.no_grad():
                self.gate.bias.copy_(-log_uniform_times(hidden_dim, memory_horizon))
                self.write_scale.copy_((2 / self.gate.bias.sigmoid()).sqrt())

    def _keep_and_write(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``1 - z`` and ``z * candidate``. Each has its own sigmoid, because ``z`` may be tiny."""
        gate = narrow_linear(x, self.gate.weight, self.gate.bias)
        return torch.sigmoid(-gate), torch.sigmoid(gate) * (self.write_scale * narrow_linear(x, self.candidate.weight))

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step; the feature is the state."""
        assert isinstance(state, Tensor)
        keep, write = self._keep_and_write(x_BD)
        h = torch.addcmul(write, keep, state)
        return h, h

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Compute all gates and candidates at once, then run the scan."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        keep, write = self._keep_and_write(x_TBD)
        h_TBD = diagonal_scan(keep, write, is_first_TB, state)
        return h_TBD, h_TBD[-1]

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the gate, which decides how long the state is kept."""
        yield from self.gate.parameters()


MinGRU = stacked(MinGRULayer)
