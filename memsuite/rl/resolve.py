"""The settings of a run with every default filled in, so that nothing is left to be guessed from a later version's."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from typing import Any

from memsuite.controllers import controller_class
from memsuite.errors import unknown
from memsuite.reading import positive
from memsuite.rl.course import Course
from memsuite.runs.config import NAMES, RunConfig
from memsuite.runs.recipes import GYM, usual_critic


def build_config(config: RunConfig | None, settings: dict[str, Any]) -> RunConfig:
    """Return the configuration with single settings replaced.

    Raises:
        UsageError: a name that is no setting, with the nearest.
    """
    for name in settings:
        if name not in (*NAMES, "ppo"):
            raise unknown("setting", name, [*NAMES, "ppo"])
    return RunConfig(**settings) if config is None else replace(config, **settings)


def resolve(config: RunConfig, course: Course) -> RunConfig:
    """Fill in the task's, the controller's and PPO's own values where the settings leave them open.

    ``ppo.rollout_length`` stays open: one whole episode of what is trained on, which a curriculum changes. So does the
    horizon of a Gymnasium environment, which has its own.
    """
    preset, arguments = course.preset, course.full_arguments()
    arguments.pop("horizon", None)
    horizon = config.horizon if config.task.startswith(GYM) else positive(course.full_task.horizon)
    discount = preset.discount if config.ppo.discount is None else config.ppo.discount
    gae_lambda = preset.gae_lambda if config.ppo.gae_lambda is None else config.ppo.gae_lambda
    critic = config.ppo.critic or usual_critic(discount)
    return replace(
        config,
        horizon=horizon,
        task_args=arguments,
        controller_args=_controller_arguments(config, course.full_task.steps_to_remember()),
        steps=config.steps or positive(course.budget),
        ppo=replace(config.ppo, discount=discount, gae_lambda=gae_lambda, critic=critic),
    )


def _controller_arguments(config: RunConfig, steps_to_remember: int) -> dict[str, Any]:
    """Return every argument of the controller that a file can hold: its own defaults, and what was given."""
    parameters = inspect.signature(controller_class(config.controller)).parameters
    found = {name: parameter.default for name, parameter in parameters.items() if _is_plain(parameter.default)}
    if "memory_horizon" in parameters:
        found["memory_horizon"] = steps_to_remember
    return found | (config.controller_args or {})


def _is_plain(value: Any) -> bool:
    if value is inspect.Parameter.empty:
        return False
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
