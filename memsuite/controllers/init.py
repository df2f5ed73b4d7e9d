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
def gru_integrator_(
    weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor, horizon: int, gain: float = 1.0
) -> None:
    """Turn a default GRU into one that holds its state when nothing is shown, in place.

    The candidate copies the state (``W_hn = I``, reset gate open), so on a blank input
    ``h' = (1 - z) tanh(h) + z h``: a power-law decay without drift, as slow as the update gate makes it. The gate's
    bias grows with the horizon, so that what is written is kept and no more is lost in writing than it must be.

    With a ``gain`` g above 1, ``W_hn = g I``, zero is no longer where a unit rests: it goes to one of the two points
    with ``h = tanh(g h)``, whichever is on its side, and what pushes it less than back over zero leaves no trace.
    """
    size = weight_hh.shape[1]
    bias_ih.zero_()
    bias_hh.zero_()
    weight_hh[2 * size :] = gain * torch.eye(size)
    bias_ih[:size] = 6.0
    bias_ih[size : 2 * size] = max(2.0, math.log(horizon / 50))


def log_uniform_times(size: int, horizon: int) -> Tensor:
    """Draw the logarithms of ``size`` time scales, uniform between one and four horizons.

    The shortest keeps ``1/e`` over the horizon. Chrono gates (Tallec & Ollivier 2018) draw from 1 to the horizon,
    which also serves what is shorter, but leaves half the channels empty when the horizon is reached.
    """
    steps = max(horizon, 2)
    return torch.empty(size).uniform_(steps, 4 * steps).log_()


@torch.no_grad()
def lstm_chrono_(weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor, horizon: int, gain: float = 0.0) -> None:
    """Turn a default LSTM into one that holds its cell when nothing is shown, in place.

    Chrono gates (Tallec & Ollivier 2018, arXiv 1804.11188): the forget gate's bias is the logarithm of a time scale.
    The cell input hears neither a bias nor the state, so on a blank input the cell decays without drift.
    The input gate stays half open: with chrono's ``b_i = -b_f`` a single cue would be written at ``1 / horizon``.

    With a ``gain`` the cell input hears the unit's own output, ``U_g = gain I``, and writes more than is forgotten:
    the cell grows to one of two points, by its sign, and stays there.
    """
    size = weight_hh.shape[1]
    bias_ih.zero_()
    bias_hh.zero_()
    weight_hh[2 * size : 3 * size] = gain * torch.eye(size)
    bias_ih[size : 2 * size] = log_uniform_times(size, horizon)


def inverse_softplus(y: Tensor) -> Tensor:
    """Return ``x`` with ``softplus(x) = y``, for ``y > 0`` however small."""
    return y + torch.log(-torch.expm1(-y))


def blank_shift(memory_horizon: int | None) -> float:
    """Return the size of a constant input that a selective layer reads a blank step with.

    What such a layer writes is a product of two maps of its input: with the root of one over the horizon, all blank
    steps of an episode write about as much as one cue.
    """
    return 0.1 if memory_horizon is None else max(memory_horizon, 2) ** -0.5
