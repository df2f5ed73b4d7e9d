"""The parts of PPO: pure tensor functions, the rollout, and the network that PPO trains."""

from memsuite.rl.actor_critic import ActorCritic, make_actor_critic
from memsuite.rl.course import Course, Iterations
from memsuite.rl.credit import Credit
from memsuite.rl.evaluate import evaluate
from memsuite.rl.gae import gae
from memsuite.rl.minibatch import AdvantageScale, minibatch_columns, minibatch_losses
from memsuite.rl.outcome import rollout_outcome
from memsuite.rl.policy.loss import TERMS, LossTerms, ppo_loss
from memsuite.rl.rollout import Actor, begin, choose, collect, sample
from memsuite.rl.streams import count_iterations, envs_per_process, stream
from memsuite.runs.ppo import PPOConfig, check_precision

__all__ = [
    "TERMS",
    "Actor",
    "ActorCritic",
    "AdvantageScale",
    "Course",
    "Credit",
    "Iterations",
    "LossTerms",
    "PPOConfig",
    "begin",
    "check_precision",
    "choose",
    "collect",
    "count_iterations",
    "envs_per_process",
    "evaluate",
    "gae",
    "make_actor_critic",
    "minibatch_columns",
    "minibatch_losses",
    "ppo_loss",
    "rollout_outcome",
    "sample",
    "stream",
]
