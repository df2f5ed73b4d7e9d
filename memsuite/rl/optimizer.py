"""The optimiser of a run."""

from __future__ import annotations

import torch

from memsuite.rl.actor_critic import ActorCritic
from memsuite.runs.ppo import ResolvedPPO


def make_optimizer(model: ActorCritic, ppo: ResolvedPPO) -> torch.optim.Optimizer:
    """Return Adam, with the recurrent parameters in a separate group."""
    groups, betas = model.parameter_groups(ppo.recurrent_lr_scale), (ppo.adam_beta1, 0.999)
    return torch.optim.Adam(groups, lr=ppo.learning_rate, betas=betas, eps=1e-5, fused=True)
