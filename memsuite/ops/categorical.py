"""What PPO asks of a categorical policy, in one pass: the log-probability of an action, and the entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops._library import define, differentiate


def categorical(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Return each action's log-probability and each distribution's entropy in nats.

    Args:
        logits: unnormalised log-probabilities, ``[.., A]``.
        actions: int64 ``[..]``, each in ``[0, A)``.

    Returns:
        Two tensors ``[..]``.
    """
    return torch.ops.memsuite.categorical(logits, actions)[:2]  # type: ignore[no-any-return]


def _forward(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probability, the entropy, and the normaliser ``log sum exp``."""
    log_sum = torch.logsumexp(logits, dim=-1)
    log_p = logits - log_sum.unsqueeze(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.gather(-1, actions.unsqueeze(-1)).squeeze(-1), entropy, log_sum


def _backward(
    d_log_prob: Tensor, d_entropy: Tensor, logits: Tensor, actions: Tensor, entropy: Tensor, log_sum: Tensor
) -> Tensor:
    log_p = logits - log_sum.unsqueeze(-1)
    slope = d_log_prob.unsqueeze(-1) + d_entropy.unsqueeze(-1) * (log_p + entropy.unsqueeze(-1))
    return (-log_p.exp() * slope).scatter_add(-1, actions.unsqueeze(-1), d_log_prob.unsqueeze(-1))


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output[1:])


def _autograd(ctx: Any, d_log_prob: Tensor, d_entropy: Tensor, _: Any) -> tuple[Tensor, None]:
    return torch.ops.memsuite.categorical_backward(d_log_prob, d_entropy, *ctx.saved_tensors), None


define(
    "categorical(Tensor logits, Tensor actions) -> (Tensor, Tensor, Tensor)",
    _forward,
    lambda logits, actions: tuple(logits.new_empty(logits.shape[:-1]) for _ in range(3)),
)
define(
    "categorical_backward(Tensor d_log_prob, Tensor d_entropy, Tensor logits, Tensor actions, Tensor entropy, "
    "Tensor log_sum) -> Tensor",
    _backward,
    lambda d_log_prob, d_entropy, logits, actions, entropy, log_sum: logits.new_empty(logits.shape),
)
differentiate("categorical", _autograd, _setup)
