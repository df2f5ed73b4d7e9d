"""What a run needs at the least, worked out before any of it is allocated, and held against the memory of the machine.

Only lower bounds are refused: weights, their gradients and one moment of each, the observations that must be there at
one time, and what the backward pass of a minibatch keeps, which a short sequence tells. What is refused here would end
in an allocator's message, or be killed after minutes, without a word on most systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from memsuite.controllers import CONTROLLERS
from memsuite.controllers.about.kept import kept_per_step
from memsuite.errors import UsageError
from memsuite.rl.policy.encoder import controller_input_dim
from memsuite.runs.ppo import ResolvedPPO
from memsuite.system import memory
from memsuite.tasks import ScriptedTask, Task

if TYPE_CHECKING:  # it checks its controller here
    from memsuite.rl.actor_critic import ActorCritic

NUMBER = 4  # bytes
TRAINED = 3  # a weight, its gradient and at least one moment
LARGE = 2048  # sizes below it, and as many layers, fit every machine, and are not looked at
LONGEST = 10**10  # environment steps of one evaluation: hours on any machine
MODEST = 4_000_000  # features of a minibatch; what is kept for fewer fits every machine, and is not looked at


def check_network(name: str, arguments: Mapping[str, Any], input_dim: int) -> None:
    """Refuse weights of a built-in controller that no memory here holds, before they are made.

    Args:
        name: of the controller.
        arguments: its arguments.
        input_dim: width of its input.

    Raises:
        UsageError: one line that says how much is needed and how much there is.
    """
    sizes = {key: value for key, value in arguments.items() if type(value) in (int, float) and value > LARGE}
    sizes.pop("memory_horizon", None)
    if name in CONTROLLERS and sizes:
        text = ", ".join(f"{key} {value:,}" for key, value in sizes.items())
        _compare(_weights(name, arguments, input_dim), f"the weights of {name} with {text}", "choose smaller ones")


def _weights(name: str, arguments: Mapping[str, Any], input_dim: int) -> float:
    """Return the bytes of a controller's weights, from one and from two of its layers; infinity if they overflow."""
    depth, found = arguments.get("depth", 1), []
    for layers in (1, 2):
        try:
            with torch.device("meta"):  # shapes without numbers
                built = CONTROLLERS[name](input_dim=input_dim, **{**arguments, "depth": min(layers, depth)})
        except Exception as error:  # of the wrong kind or out of range: the builder says it better
            return float("inf") if "overflow" in str(error) else 0.0
        found.append(sum(parameter.numel() for parameter in built.parameters()))
    return NUMBER * float(found[0] + (found[1] - found[0]) * max(0, depth - 1))


def check_needs(module: Any, num_envs: int, precision: str) -> None:
    """Refuse a run, or an evaluation alone, that fits no memory here.

    Args:
        module: the run's.
        num_envs: environments of this process; 0 for an evaluation alone.
        precision: of the trainer, as Lightning names it.
    """
    check_evaluation(module.task, module.evaluation_episodes)
    if num_envs:
        check_training(module.model, module.course.task, module.ppo, num_envs, precision)


def check_training(model: ActorCritic, task: Task, ppo: ResolvedPPO, num_envs: int, precision: str) -> None:
    """Refuse a run whose weights, episodes or intermediate values fit no memory here.

    Args:
        model: the network.
        task: what is trained on.
        ppo: the settings.
        num_envs: environments of this process.
        precision: of the trainer.

    Raises:
        UsageError: one line that says how much is needed, how much there is, and what to lower.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    _compare(TRAINED * weights, "the weights of the network with their gradients and moments", "choose a smaller one")
    rows, scripted = max(1, num_envs // ppo.draws), isinstance(task, ScriptedTask)
    steps = task.horizon if scripted else ppo.rollout_length or task.horizon
    text = f"{rows:,} {'scripts' if scripted else 'environments'} of {steps:,} steps and {task.observation_dim} numbers"
    advice = "horizon or num_envs" if scripted else "horizon, num_envs or model.ppo.rollout_length"
    _compare(NUMBER * rows * steps * task.observation_dim, text, f"lower {advice}")
    _check_kept(model, task, ppo, rows, precision)


def _check_kept(model: ActorCritic, task: Task, ppo: ResolvedPPO, rows: int, precision: str) -> None:
    """Refuse minibatches whose backward pass keeps more intermediate values than any memory here holds."""
    length = ppo.rollout_length or task.horizon
    if ppo.draws > 1 and not isinstance(task, ScriptedTask):
        length = task.known_steps  # from there on every draw is stepped, which keeps at least as much
    window, part = min(length, ppo.bptt_steps or length, ppo.recompute or length), -(-rows // ppo.minibatches)
    if part * window * model.controller.feature_dim < MODEST:
        return
    halved = 0.5 if precision == "bf16-mixed" or ppo.products == "bfloat16" else 1.0
    kind = "scripts" if ppo.draws > 1 else "environments"
    text = f"the intermediate values of {window:,} steps of a minibatch of {part:,} {kind}"
    more = f"more model.ppo.minibatches ({ppo.minibatches}) or fewer num_envs"
    advice = f"set model.ppo.recompute (below {window:,}), or {more}"
    _compare(halved * part * window * kept_per_step(model.controller, controller_input_dim(task)), text, advice)


def check_evaluation(task: Task, episodes: int) -> None:
    """Refuse an evaluation of which one episode fits no memory here, or that takes longer than anybody waits.

    Args:
        task: what is evaluated on.
        episodes: number of them.

    Raises:
        UsageError: one line that says how much is needed.
    """
    text = f"an episode of {task.horizon:,} steps and {task.observation_dim} numbers"
    _compare(NUMBER * task.horizon * task.observation_dim, text, "lower the horizon")
    if episodes > 1 and episodes * task.horizon > LONGEST:
        raise UsageError(
            f"{episodes:,} episodes of {task.horizon:,} steps are {episodes * task.horizon:,} environment steps of "
            f"evaluation; the most is {LONGEST:,}: evaluate fewer episodes"
        )


def _compare(needed: float, what: str, advice: str) -> None:
    """Raise a usage error if so many bytes are more than the memory of this machine or of its largest GPU."""
    if needed <= (there := most_memory()):
        return
    amount = "more than can be counted" if needed == float("inf") else f"at least {needed / 1e9:,.0f} GB"
    raise UsageError(f"{what} need {amount} of memory; this machine has {there / 1e9:,.0f} GB: {advice}")


def most_memory() -> float:
    """Return the bytes of the machine's memory, or of its largest GPU if that has more."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return max([memory(), *(float(torch.cuda.get_device_properties(index).total_memory) for index in gpus)])
