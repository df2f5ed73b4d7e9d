"""The settings of a run with every default filled in, so that nothing is left to be guessed from a later version's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from memsuite.controllers import controller_class
from memsuite.controllers.about.match import matched_width, read_match
from memsuite.errors import UsageError, unknown
from memsuite.imports import parameters_of
from memsuite.reading import positive
from memsuite.rl.actor_critic import ActorCritic, make_actor_critic
from memsuite.rl.course import Course
from memsuite.rl.policy.encoder import controller_input_dim
from memsuite.rl.streams import envs_per_process, stream
from memsuite.runs.config import NAMES, RunConfig, is_plain, nested
from memsuite.runs.ppo import ResolvedPPO
from memsuite.runs.recipes import (
    GYM,
    usual_critic,
    usual_draws,
    usual_episodes,
    usual_gradient_clip,
    usual_matrix_scale,
    usual_minibatches,
    usual_num_envs,
    usual_optimizer,
    usual_recurrent_scale,
)
from memsuite.tasks import ScriptedTask, Task, get_task_config
from memsuite.tasks.actions import Discrete


def build_config(config: RunConfig | None, settings: dict[str, Any]) -> RunConfig:
    """Return the configuration with single settings replaced.

    Raises:
        UsageError: a name that is no setting, with the nearest.
    """
    for name in settings:
        if name not in (*NAMES, "ppo"):
            raise unknown("setting", name, [*NAMES, "ppo"])
    return RunConfig(**settings) if config is None else replace(config, **settings)


def plan(config: RunConfig) -> tuple[RunConfig, Course]:
    """Return the settings with their sizes filled in, and the course of the run that they ask for."""
    preset = get_task_config(config.task, config.difficulty)
    given = nested(config.task_args or {})
    task_args = given if config.horizon is None else {"horizon": config.horizon, **given}
    if config.horizon is not None and task_args["horizon"] != config.horizon:
        raise UsageError(f"horizon is {config.horizon}, and task_args.horizon {task_args['horizon']}; give one of them")
    task = preset.make(**task_args)
    config = resolve_size(config, task)
    assert config.num_envs is not None
    # Draws that part take one whole episode of what is trained on, however long a curriculum makes it.
    parts = shares_scripts(config) and not isinstance(task, ScriptedTask)
    length = None if parts and config.ppo.rollout_length == task.horizon else config.ppo.rollout_length
    return config, Course(preset, task_args, config.num_envs, length, config.steps)


def can_share(task: Task) -> bool:
    """Tell whether several environments can begin with one script of the task."""
    return isinstance(task.action_space, Discrete) and (isinstance(task, ScriptedTask) or task.can_fork)


def resolve_size(config: RunConfig, task: Task) -> RunConfig:
    """Fill in how many environments there are and how many share a script, which a run's course is counted by."""
    num_envs = config.num_envs or positive(usual_num_envs(can_share(task)))
    draws = config.ppo.draws or usual_draws(num_envs, can_share(task))
    advantage = config.ppo.advantage or ("group_mean" if draws > 1 else "gae")
    minibatches = config.ppo.minibatches or usual_minibatches(num_envs, draws)
    ppo = replace(config.ppo, draws=draws, advantage=advantage, minibatches=minibatches)
    return replace(config, num_envs=num_envs, ppo=ppo)


def resolve(config: RunConfig, course: Course) -> RunConfig:
    """Fill in the task's, the controller's and PPO's own values where the settings leave them open.

    ``ppo.rollout_length`` stays open: one whole episode of what is trained on, which a curriculum changes. So does the
    horizon of a Gymnasium environment, which has its own.

    Args:
        config: with its sizes resolved (:func:`resolve_size`).
        course: of the run.
    """
    preset, arguments, task = course.preset, course.full_arguments(), course.full_task
    arguments.pop("horizon", None)
    horizon = config.horizon if config.task.startswith(GYM) else positive(task.horizon)
    ppo = config.ppo
    discount = preset.discount if ppo.discount is None else ppo.discount
    gae_lambda = preset.gae_lambda if ppo.gae_lambda is None else ppo.gae_lambda
    bonus = preset.entropy_coefficient if ppo.entropy_coefficient is None else ppo.entropy_coefficient
    critic = ppo.critic or usual_critic(discount, ppo.advantage or "gae", config.objective)
    scale = ppo.recurrent_lr_scale
    if scale is None:
        scale = usual_recurrent_scale(task.steps_to_remember())
    optimizer = ppo.optimizer or usual_optimizer(shares_scripts(config))
    if ppo.matrix_decay and optimizer != "muon":
        raise UsageError(f"ppo.matrix_decay acts under ppo.optimizer muon alone; here it is {optimizer}")
    matrix_scale = ppo.matrix_lr_scale
    if matrix_scale is None:
        matrix_scale = usual_matrix_scale(optimizer, controller_class(config.controller).matrix_factor)
    filled = {
        "discount": discount,
        "gae_lambda": gae_lambda,
        "entropy_coefficient": bonus,
        "entropy_weighting": ppo.entropy_weighting or preset.entropy_weighting,
        "critic": critic,
        "optimizer": optimizer,
        "matrix_lr_scale": matrix_scale,
        "recurrent_lr_scale": scale,
        "gradient_clip": ppo.gradient_clip or usual_gradient_clip(task.steps_to_remember()),
    }
    found = replace(
        config,
        horizon=horizon,
        task_args=arguments,
        controller_args=_controller_arguments(config, task),
        steps=config.steps or positive(course.budget),
        evaluation_episodes=config.evaluation_episodes
        or positive(usual_episodes(config.task, course.budget, task.horizon)),
        ppo=ResolvedPPO(**{**vars(ppo), **filled}),
    )
    if shares_scripts(found):
        check_sharing(found, task)
    return found


def model_of(config: RunConfig, task: Task) -> ActorCritic:
    """Build the network of a run, with the initial weights of its seed.

    Args:
        config: with every default filled in (:func:`resolve`).
        task: of the run, at its full horizon.
    """
    ppo = cast(ResolvedPPO, config.ppo)
    envs_per_process(cast(int, config.num_envs), 1, ppo)
    arguments = config.controller_args or {}
    model = make_actor_critic(task, config.controller, arguments, ppo.critic, stream(config.seed, "weights"))
    model.recompute = ppo.recompute
    return model


def shares_scripts(config: RunConfig) -> bool:
    """Tell whether a run learns from scripts that several environments share, or from their right actions."""
    return config.objective == "supervised" or (config.ppo.draws or 1) > 1


def check_sharing(config: RunConfig, task: Task) -> None:
    """Refuse what cannot be learnt from shared scripts, before anything is drawn.

    Raises:
        UsageError: one line that says which setting to change.
    """
    ppo, scripted = config.ppo, isinstance(task, ScriptedTask)
    if (config.num_envs or 1) % (ppo.draws or 1):
        raise UsageError(f"num_envs is {config.num_envs}, ppo.draws {ppo.draws}: num_envs must be a multiple of it")
    if not isinstance(task.action_space, Discrete):
        what = "objective supervised" if config.objective == "supervised" else f"ppo.draws {ppo.draws}"
        raise UsageError(
            f"{what} needs Discrete actions, and those of {config.task} are {type(task.action_space).__name__}: use "
            "objective ppo, ppo.draws 1 and ppo.advantage gae"
        )
    if not can_share(task):
        if config.objective == "supervised":
            raise UsageError(f"objective supervised: {config.task} does not tell which action is right")
        raise UsageError(
            f"ppo.draws is {ppo.draws}, but environments of {config.task} cannot begin with one script: use "
            "ppo.draws 1 and ppo.advantage gae"
        )
    if not scripted and ppo.rollout_length not in (None, task.horizon):
        raise UsageError(
            f"ppo.rollout_length is {ppo.rollout_length}: draws of {config.task} need whole episodes, null"
        )
    if ppo.consequences != "assumed":
        raise UsageError("ppo.consequences tested needs ppo.advantage gae and ppo.draws 1")
    if ppo.value_clip is not None:
        raise UsageError(f"ppo.value_clip is {ppo.value_clip}: with draws it must be null; or use ppo.draws 1")
    _check_reach(config, task)
    if config.objective == "ppo" and ppo.advantage == "gae" and not (scripted and ppo.discount == 0):
        raise UsageError(
            f"ppo.advantage gae with ppo.draws {ppo.draws} needs a scripted task at discount 0; take group_mean, or "
            "ppo.draws 1"
        )


def _check_reach(config: RunConfig, task: Task) -> None:
    """Refuse a discount and a length of backpropagation that draws would not use."""
    ppo, stepped = config.ppo, task.horizon - task.known_steps
    if isinstance(task, ScriptedTask):
        if config.objective == "ppo" and ppo.advantage != "gae" and ppo.discount:
            raise UsageError(
                f"ppo.discount is {ppo.discount}: draws of {config.task} are compared by the reward of one decision, "
                "because no action changes later steps; use ppo.discount 0, or ppo.draws 1"
            )
    elif ppo.bptt_steps is not None and ppo.bptt_steps < stepped:
        raise UsageError(
            f"ppo.bptt_steps is {ppo.bptt_steps}: draws of {config.task} part {stepped} steps before the end, through "
            f"which the gradient is not cut; use {stepped} or more, null, or ppo.draws 1"
        )


def _controller_arguments(config: RunConfig, task: Task) -> dict[str, Any]:
    """Return every argument of the controller that a file can hold: its own defaults, and what was given.

    ``match`` is replaced by the ``hidden_dim`` that it stands for, so that a stored run says its width.
    """
    parameters = parameters_of(controller_class(config.controller))
    found = {name: one.default for name, one in parameters.items() if is_plain(one.default)}
    if "memory_horizon" in parameters:
        found["memory_horizon"] = task.steps_to_remember()
    found |= config.controller_args or {}
    if (match := found.pop("match", None)) is None or "match" in parameters:
        return found if match is None else {**found, "match": match}
    if "hidden_dim" in (config.controller_args or {}):
        raise UsageError("controller_args has both hidden_dim and match, which sets it: keep one")
    width = matched_width(config.controller, controller_input_dim(task), read_match(match), found)
    return {**found, "hidden_dim": width}
