"""Kimi Delta Attention (Kimi Team 2025, arXiv 2510.26692): the delta rule with a decay of each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear
from memsuite.controllers.matrices.delta_rule import DeltaRuleLayer
from memsuite.controllers.matrices.edited import Edit
from memsuite.controllers.stack import stacked


class KDALayer(DeltaRuleLayer):
    r"""KDA: heads whose matrix decays channel by channel, and overwrites the value that it held under a key.

    .. math::
        S_t = (I - \beta_t k_t k_t^\top) \mathrm{Diag}(\alpha_t) S_{t-1} + \beta_t k_t v_t^\top, \quad
        \beta = \sigma(W_\beta x)

    with queries, keys, values, decays and output of :class:`~memsuite.controllers.matrices.delta_rule.DeltaRuleLayer`:
    a short convolution, unit keys and queries, decays from a map of rank ``input_dim / num_heads``, a norm for each
    head and a sigmoid gate. The paper has no bias in the queries; with it, a blank input still gets an answer.

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats, and ``3 D (conv_width - 1)`` of the convolution. Cost per
    step: ``5 D^2 + 6 D^2 / num_heads`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The channels then decay over
            one to four H, and a repeated item retrieves the items that were shown with it, as in ``gated_deltanet``.
            None for the initialisation of Gated DeltaNet's paper: ``exp(A)`` is uniform in (0, 16), and the softplus
            of the bias log-uniform between 0.001 and 0.1.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
        conv_width: number of steps that the convolution sees.
        negative_eigenvalues: whether ``beta`` reaches up to 2, so that a step can change the sign of what is held under
            a key (Grazzi et al. 2024, arXiv 2411.12537).
    """

    abilities = Abilities("matrix", by_input=True)

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        num_heads: int = 4,
        conv_width: int = 4,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(input_dim, memory_horizon, num_heads, conv_width, edits=1, decays=input_dim)
        self.write = Linear(input_dim, num_heads, bias=False)
        self.strength = 2.0 if negative_eigenvalues else 1.0

    def edit(self, at: int, k: Tensor, v: Tensor, log_decay: Tensor, x: Tensor) -> Edit:
        """Erase what is found under the key, as far as it is left, and write the value there."""
        return Edit(k, v, log_decay, self.strength * torch.sigmoid(self.write(x).to(v.dtype)))


KDA = stacked(KDALayer)
