"""Initialisation against a horizon: what a memory keeps before it has learnt anything.

Retention at initialisation decides what PPO can learn at all: a recurrence that has forgotten the cue by the time it is
asked has no gradient to follow. The functions here set time scales from the number of steps to remember.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def default_uniform_(parameters: Iterable[nn.Parameter], hidden_dim: int) -> None:
    """Fill with ``U(-1/sqrt(hidden_dim), 1/sqrt(hidden_dim))``, the default of PyTorch's recurrent layers."""
    bound = hidden_dim**-0.5
    for parameter in parameters:
        nn.init.uniform_(parameter, -bound, bound)


@torch.no_grad()
def gru_integrator_(weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor, horizon: int) -> None:
    """Turn a default GRU into one that holds its state when nothing is shown, in place.

    The candidate copies the state (``W_hn = I``, reset gate open), so on a blank input
    ``h' = (1 - z) tanh(h) + z h``: a power-law decay without drift, as slow as the update gate makes it. The gate's
    bias grows with the horizon, so that what is written is kept and no more is lost in writing than it must be.
    """
    size = weight_hh.shape[1]
    bias_ih.zero_()
    bias_hh.zero_()
    weight_hh[2 * size :] = torch.eye(size)
    bias_ih[:size] = 6.0
    bias_ih[size : 2 * size] = max(2.0, math.log(horizon / 50))
