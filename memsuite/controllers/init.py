"""Initialisation for a horizon: how long a memory retains information before it has learnt anything.

Retention at initialisation decides whether PPO can learn at all: if a recurrence has forgotten the cue when the query
comes, there is no gradient to follow. The functions here set time scales from the number of steps to remember.
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
    """Turn a default GRU into one that holds its state over blank inputs, in place.

    The candidate copies the state (``W_hn = I``, reset gate open), so on a blank input
    ``h' = (1 - z) tanh(h) + z h``. This decays by a power law, without drift, at a rate that the update gate sets. The
    gate's bias grows with the horizon: a larger bias keeps a state longer, but also writes less.

    With a ``gain`` g above 1, ``W_hn = g I``, and zero is no longer a stable state. Each unit has two stable points
    with ``h = tanh(g h)``. A unit goes to the one of its own sign, and returns there after any disturbance that does
    not change its sign.
    """
    size = weight_hh.shape[1]
    bias_ih.zero_()
    bias_hh.zero_()
    weight_hh[2 * size :] = gain * torch.eye(size)
    bias_ih[:size] = 6.0
    bias_ih[size : 2 * size] = max(2.0, math.log(max(horizon, 1) / 50))


def log_uniform_times(size: int, horizon: int) -> Tensor:
    """Draw the logarithms of ``size`` time scales, uniform between one and four horizons.

    At the shortest scale, ``1/e`` of a state is left after the horizon. Chrono gates (Tallec & Ollivier 2018) draw from
    1 to the horizon. That range also serves shorter memories, but half of its channels are empty at the horizon.
    """
    steps = max(horizon, 2)
    return torch.empty(size).uniform_(steps, 4 * steps).log_()


@torch.no_grad()
def lstm_chrono_(weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor, horizon: int, gain: float = 0.0) -> None:
    """Turn a default LSTM into one that holds its cell over blank inputs, in place.

    Chrono gates (Tallec & Ollivier 2018, arXiv 1804.11188): the forget gate's bias is the logarithm of a time scale.
    The cell input has no bias and does not depend on the state, so on a blank input the cell decays without drift.
    The input gate stays half open: chrono's ``b_i = -b_f`` would write a single cue at a size of ``1 / horizon``.

    With a ``gain`` the cell input depends on the unit's own output, ``U_g = gain I``, and adds more than is forgotten.
    The cell then grows to one of two stable points, the one of its own sign, and stays there.
    """
    size = weight_hh.shape[1]
    bias_ih.zero_()
    bias_hh.zero_()
    weight_hh[2 * size : 3 * size] = gain * torch.eye(size)
    bias_ih[size : 2 * size] = log_uniform_times(size, horizon)


@torch.no_grad()
def bind_(queries: Tensor, keys: Tensor) -> None:
    """Begin with queries that are made as the keys are, in place.

    A query then resembles the keys of the steps whose input resembles its own, so that an item that comes again
    retrieves what was shown with it. With independent maps queries have nothing to do with keys, and training has to
    find both at once from the reward.

    Args:
        queries: the weights that make the queries.
        keys: those that make the keys, of the same shape.
    """
    queries.copy_(keys)


def log_rate_on_ring(size: int, r_min: float, r_max: float) -> Tensor:
    """Draw ``log(-log r)`` for radii uniform by area on a ring; in float64, because float32 may round radii to 1."""
    area = torch.empty(size, dtype=torch.float64).uniform_(r_min**2, r_max**2)
    return (-0.5 * area.log()).log().to(torch.get_default_dtype())


def inverse_softplus(y: Tensor) -> Tensor:
    """Return ``x`` with ``softplus(x) = y``, for any ``y > 0``, also a very small one."""
    return y + torch.log(-torch.expm1(-y))


def blank_shift(memory_horizon: int | None) -> float:
    """Return the size of the constant that is added to the input of a selective layer.

    Such a layer writes a product of two projections of its input. With a constant of one over the square root of the
    horizon, all blank steps of an episode together write about as much as one cue.
    """
    return 0.1 if memory_horizon is None else max(memory_horizon, 2) ** -0.5
