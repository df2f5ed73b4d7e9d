"""PPO's parts: pure tensor functions, the rollout, and the network they train."""

from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.config import PPOConfig
from memsuite.rl.gae import gae
from memsuite.rl.loss import LossTerms, log_prob_and_entropy, ppo_loss
from memsuite.rl.rollout import Actor, begin, choose, collect, sample

__all__ = [
    "Actor",
    "ActorCritic",
    "LossTerms",
    "PPOConfig",
    "begin",
    "choose",
    "collect",
    "gae",
    "log_prob_and_entropy",
    "ppo_loss",
    "sample",
]
