"""The values that a model computes for itself at every step: gates, step sizes, decays and attention weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from memsuite.analysis.probes.episodes import first_steps, layer_input
from memsuite.controllers import Controller
from memsuite.errors import UsageError
from memsuite.types import State

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@runtime_checkable
class Gated(Protocol):
    """A layer that reports its gates; a user's controller may define this method too."""

    def gates(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> dict[str, Tensor]:
        """Return each gate ``[T, B, units]`` by its name."""


@torch.no_grad()
def gates(controller: Controller, observations: Tensor, layer: int = -1) -> dict[str, Tensor]:
    """Return every gate of one layer for episodes ``[T, B, D]``, each ``[T, B, units]``.

    GRU: ``reset``, ``update`` (1 keeps). LSTM: ``input``, ``forget`` (1 keeps), ``output``. Mamba: ``step_size``, in
    units of the inverse rate, and ``decay`` per step of every state (1 keeps). Any other controller with a method
    ``gates`` returns gates of its own choice.

    Raises:
        UsageError: the layer has no method ``gates``.
    """
    its, x = layer_input(controller, observations, layer)
    if not isinstance(its, Gated):
        raise UsageError(f"{type(its).__name__} has no gates to report; GRU, LSTM and Mamba have")
    return its.gates(x, its.init_state(x.shape[1]), first_steps(x))


def quantiles(values: Tensor, at: Sequence[float] = QUANTILES) -> Tensor:
    """Return quantiles over episodes and units at every step, ``[len(at), T]``, of values ``[T, B, units]``."""
    ordered = values.flatten(1).double().sort(dim=1).values  # torch.quantile refuses more than 16 million numbers
    where = torch.tensor(list(at), dtype=torch.float64, device=values.device) * (ordered.shape[1] - 1)
    low, high = ordered[:, where.floor().long()], ordered[:, where.ceil().long()]
    return (low + (high - low) * where.frac()).t()


@torch.no_grad()
def attention_map(controller: Controller, observations: Tensor, layer: int = -1, episode: int = 0) -> Tensor:
    """Return the attention ``[heads, queries, keys]`` of one episode; each row adds up to one.

    Args:
        controller: a Transformer, or another controller whose layers have the same method ``attention``.
        observations: episodes ``[T, B, D]``.
        layer: index of the layer.
        episode: index of the episode among the ``B``.
    """
    its, x = layer_input(controller, observations, layer)
    attention = getattr(its, "attention", None)
    if attention is None:
        raise UsageError(f"{type(its).__name__} does not attend; the Transformer does")
    x = x[:, episode : episode + 1]
    return cast(Tensor, attention(x, first_steps(x))[0][0])
