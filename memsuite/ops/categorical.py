"""What a rollout asks of a categorical policy, in one pass: the log-probability of an action, and the entropy.

No gradient: learning takes both inside of :mod:`memsuite.ops.surrogate`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.ops._library import define


def categorical(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Return each action's log-probability and each distribution's entropy in nats, without a gradient.

    Args:
        logits: unnormalised log-probabilities, ``[.., A]``.
        actions: int64 ``[..]``, each in ``[0, A)``.

    Returns:
        Two tensors ``[..]``.
    """
    return torch.ops.memsuite.categorical(logits.detach(), actions)  # type: ignore[no-any-return]


def _forward(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.gather(-1, actions.unsqueeze(-1)).squeeze(-1), entropy


define(
    "categorical(Tensor logits, Tensor actions) -> (Tensor, Tensor)",
    _forward,
    lambda logits, actions: (logits.new_empty(logits.shape[:-1]), logits.new_empty(logits.shape[:-1])),
)
