"""The log-probability of the action that a categorical policy took, in one pass, for rollouts.

It has no gradient, because training computes its own log-probabilities inside :mod:`memsuite.ops.fused.surrogate`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.ops.schema import define


def log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    """Return each action's log-probability ``[..]``, without a gradient.

    Args:
        logits: unnormalised log-probabilities, ``[.., A]``.
        actions: int64 ``[..]``, each in ``[0, A)``.
    """
    return torch.ops.memsuite.log_prob(logits.detach(), actions)  # type: ignore[no-any-return]


def _forward(logits: Tensor, actions: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


define(
    "log_prob(Tensor logits, Tensor actions) -> Tensor",
    _forward,
    lambda logits, actions: logits.new_empty(logits.shape[:-1]),
)
