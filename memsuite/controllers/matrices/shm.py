"""Stable Hadamard Memory (Le et al. 2024, arXiv 2410.10132): a matrix whose every number is kept or erased apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import ZeroBegin
from memsuite.controllers.stack import stacked
from memsuite.controllers.windows.positions import positions_in_episode
from memsuite.ops import diagonal_scan
from memsuite.types import State

# Knuth's multiplicative hash: successive positions get numbers far apart, which cover the range evenly.
MULTIPLIER, BITS = 2_654_435_761, 32


class SHMLayer(ZeroBegin):
    r"""Stable Hadamard Memory: a matrix that is calibrated number by number, then written to.

    .. math::
        M' = M \odot C + \eta\, v k^\top, \quad C = 1 + \tanh(\theta_t \otimes v_c), \quad
        y = W_o M' q

    with :math:`u = \mathrm{norm}(x)`, :math:`v = W_v u`, :math:`v_c = W_c u`, :math:`\eta = \sigma(w^\top u)`, and
    :math:`k` and :math:`q` the rectified :math:`W_k u` and :math:`W_q u + b_q`, each divided by its sum. The paper has
    no bias :math:`b_q`; with it, a blank input still gets an answer. :math:`\theta_t` is a row of a learnt table. The
    paper draws the row at random at every step, in acting as in training, which keeps the products of calibrations near
    1 on average. Here it is a fixed function of the position in the episode that looks random, so that a policy learns
    from exactly the memory with which it acted. With the initial weights a blank input has a calibration of 1, and
    nothing is written or erased; the bias of the norm is learnt and may change that.

    State: ``memory_size^2`` floats and the position. Cost per step: ``3 memory_size^2 + 4 memory_size input_dim +
    memory_size hidden_dim`` multiply-adds, and ``memory_size^2`` tanhs.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the features.
        memory_horizon: steps over which the initial weights should retain information. The output then begins without
            a bias, which would be much larger than what is read; the number of steps itself changes nothing, because
            blank steps erase nothing. None for PyTorch's default initialisation.
        memory_size: rows and columns of the memory.
        table_size: rows of the table of calibrations.
    """

    abilities = Abilities("matrix", by_input=True)

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        memory_horizon: int | None = None,
        memory_size: int = 24,
        table_size: int = 128,
    ) -> None:
        super().__init__()
        self.input_dim, self.feature_dim, self.memory_size = input_dim, hidden_dim, memory_size
        self.norm = nn.LayerNorm(input_dim)
        self.maps = nn.Linear(input_dim, 4 * memory_size, bias=False)
        self.write_gate = nn.Linear(input_dim, 1)
        self.query_bias = nn.Parameter(torch.empty(memory_size).uniform_(-1, 1))
        self.table = nn.Parameter(torch.empty(table_size, memory_size))
        self.out = nn.Linear(memory_size, hidden_dim)
        nn.init.xavier_uniform_(self.table)
        if memory_horizon is not None:
            nn.init.zeros_(self.out.bias)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return ``memory``, zeros ``[B, memory_size, memory_size]``, and ``position``, int64 ``[B]``."""
        like = self.table
        memory = like.new_zeros(batch_size, self.memory_size, self.memory_size, device=device or like.device)
        return {"memory": memory, "position": torch.zeros(batch_size, dtype=torch.int64, device=memory.device)}

    def _drive(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the calibration and the update, ``[.., memory_size, memory_size]``, and the query."""
        u = self.norm(x)
        v, v_c, k, q = self.maps(u).to(self.table.dtype).chunk(4, dim=-1)
        k, q = (share / (share.sum(-1, keepdim=True) + 1e-5) for share in (relu(k), relu(q + self.query_bias)))
        written = torch.sigmoid(self.write_gate(u)) * v
        row = (position * MULTIPLIER % 2**BITS) * len(self.table) >> BITS
        theta = self.table[row]
        calibration = 1 + torch.tanh(theta.unsqueeze(-1) * v_c.unsqueeze(-2))
        return calibration, written.unsqueeze(-1) * k.unsqueeze(-2), q

    def _read(self, memory: Tensor, q: Tensor) -> Tensor:
        return self.out((memory @ q.unsqueeze(-1)).squeeze(-1))  # type: ignore[no-any-return]

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        before = cast(dict[str, Tensor], state)
        calibration, update, q = self._drive(x_BD, before["position"])
        memory = torch.addcmul(update, before["memory"], calibration)
        return self._read(memory, q), {"memory": memory, "position": before["position"] + 1}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Compute all calibrations and updates at once, then run the scan over the numbers of the matrix."""
        before = cast(dict[str, Tensor], self.reset_mask(state, is_first_TB[0]))
        positions = positions_in_episode(is_first_TB, before["position"])
        calibration, update, q = self._drive(x_TBD, positions)
        begin = before["memory"].flatten(1)
        memory = diagonal_scan(calibration.flatten(2), update.flatten(2), is_first_TB, begin).view_as(update)
        return self._read(memory, q), {"memory": memory[-1], "position": positions[-1] + 1}

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the maps and of the calibrations, which decide what is written and what is kept."""
        yield from (*self.maps.parameters(), self.table)


SHM = stacked(SHMLayer)
