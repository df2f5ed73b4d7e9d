"""PPO's parts: pure tensor functions, the rollout, and the network they train."""

from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.config import PPOConfig
from memsuite.rl.evaluate import evaluate
from memsuite.rl.gae import gae
from memsuite.rl.loss import LossTerms, ppo_loss
from memsuite.rl.minibatch import AdvantageScale, minibatch_losses
from memsuite.rl.rollout import Actor, begin, choose, collect, sample
from memsuite.rl.streams import Iterations, count_iterations, stream

__all__ = [
    "Actor",
    "ActorCritic",
    "AdvantageScale",
    "Iterations",
    "LossTerms",
    "PPOConfig",
    "begin",
    "choose",
    "collect",
    "count_iterations",
    "evaluate",
    "gae",
    "minibatch_losses",
    "ppo_loss",
    "sample",
    "stream",
]
