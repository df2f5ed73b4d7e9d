"""Gated DeltaProduct (Siems et al. 2025, arXiv 2502.10297): several steps of the delta rule for each input."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear, at_least
from memsuite.controllers.matrices.delta_rule import DeltaRuleLayer
from memsuite.controllers.matrices.edited import Edit
from memsuite.controllers.stack import stacked
from memsuite.ops import wide_linear


class GatedDeltaProductLayer(DeltaRuleLayer):
    r"""Gated DeltaProduct: one decay of a head, then several edits with keys, values and strengths of their own.

    .. math::
        S \leftarrow \alpha_t S_{t-1}, \quad
        S \leftarrow (I - \beta_{t,j} k_{t,j} k_{t,j}^\top) S + \beta_{t,j} k_{t,j} v_{t,j}^\top
        \quad (j = 1, .., n), \quad S_t = S

    with queries, keys, values, decays and output of :class:`~memsuite.controllers.matrices.delta_rule.DeltaRuleLayer`,
    and :math:`\beta = 2 \sigma(W_\beta x)`. A product of n such steps can be any rotation of n dimensions, so that more
    edits can track more of a state (Siems et al. 2025).

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats, and ``(1 + 2 n) D (conv_width - 1)`` of the convolution.
    Cost per step: ``(3 + 2 n) D^2 + (3 n + 1) D^2 / num_heads`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state: the heads then decay over one
            to four H, and the first key is bound to the query, as in ``gated_deltanet``.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
        conv_width: number of steps that the convolution sees.
        num_edits: edits of a step, n.
        negative_eigenvalues: whether ``beta`` reaches up to 2, as above; up to 1 if not.
    """

    abilities = Abilities("matrix", by_input=True, sign_changing=True)

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        num_heads: int = 4,
        conv_width: int = 4,
        num_edits: int = 2,
        negative_eigenvalues: bool = True,
    ) -> None:
        at_least("num_edits", num_edits, 1)
        super().__init__(input_dim, memory_horizon, num_heads, conv_width, edits=num_edits, decays=num_heads)
        self.write = Linear(input_dim, num_edits * num_heads, bias=False)
        self.strength = 2.0 if negative_eigenvalues else 1.0

    def edit(self, at: int, k: Tensor, v: Tensor, log_decay: Tensor, x: Tensor) -> Edit:
        """Decay at the first edit, and overwrite at every one."""
        decay = log_decay.squeeze(-1)
        return Edit(k, v, torch.zeros_like(decay) if at else decay, self._strength(at, x, v.dtype))

    def _strength(self, at: int, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the strength of edit number ``at``, ``[.., B, num_heads]``."""
        return self.strength * torch.sigmoid(wide_linear(x, self.write.weight.chunk(self.edits)[at]).to(dtype))


GatedDeltaProduct = stacked(GatedDeltaProductLayer)
