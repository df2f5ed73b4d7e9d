"""The defaults of each version of the recipe, kept as they were, so that no result depends on today's.

A recipe file holds every default that decides what a run computes: the number of environments, PPO's settings, and the
arguments of every built-in controller and task. A run is told apart from others by what in its resolved configuration
differs from the recipe it is nearest to. Where a default changes, a new file is added and the old ones stay.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from memsuite.runs.ppo import GradientClip

FILES = Path(__file__).parent / "recipe_files"
GYM = "gym:"
FIRST = "v1"  # the recipe of results that name no schema
# What the first recipe did where it had no setting yet.
LATER: dict[str, Any] = {
    "draws": 1,
    "advantage": "gae",
    "optimizer": "adam",
    "matrix_lr_scale": 1.0,
    "matrix_decay": 0.0,
    "gradient_clip": "global",
    "products": "float32",
}
# Arguments of tasks and controllers that came after results were published: what those were made with.
LATER_ARGUMENTS: dict[str, Any] = {"reveal": False, "binding": False, "negative_eigenvalues": False}
LONGEST_GLOBAL = 20_000  # most steps to remember at which one norm over all parameters still lets the heads learn
THE_SAME = ("recompute",)  # how a result is computed, which changes it by rounding alone; older results lack it
MOST_EPISODES, MOST_EVALUATIONS = 1024, 20  # of the final evaluation, and on the way
EVALUATION_SHARE = 0.2  # most of the steps of training that evaluations of a Gymnasium environment take by default
NO_BONUS = {"entropy_coefficient": 0.0, "entropy_weighting": "advantages"}  # of a task that has none of its own
NO_TASK = {"scripted": {"discount": 0.0, "gae_lambda": 0.0}, "stepped": {"discount": 0.99, "gae_lambda": 0.95}}


@functools.cache
def recipes() -> dict[str, dict[str, Any]]:
    """Return every recipe by its name, the oldest first."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FILES.glob("v*.json"))}


def published(recipe: str, task: str, difficulty: str) -> dict[str, Any]:
    """Return a task's ``args``, ``discount``, ``gae_lambda`` and whether it is ``scripted``, as a recipe has them.

    A class of somebody's own and a Gymnasium environment have no arguments there.
    """
    entry = recipes()[recipe]["tasks"].get(task)
    if entry is None or difficulty not in entry:
        return {
            "args": {},
            "scripted": not task.startswith(GYM),
            **NO_TASK["stepped" if task.startswith(GYM) else "scripted"],
        }
    return {**{name: value for name, value in entry.items() if name in ("scripted", "can_share")}, **entry[difficulty]}


def completed_config(config: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the defaults of the first recipe into a configuration that was stored without them.

    Args:
        config: the settings as they were given.
        run: ``task``, ``difficulty``, ``controller`` and ``horizon`` of the run, where the settings lack them.
    """
    names = {name: str(config.get(name) or run.get(name)) for name in ("task", "difficulty", "controller")}
    task, first = published(FIRST, names["task"], names["difficulty"]), recipes()[FIRST]
    args = {**task["args"], **(config.get("task_args") or {})}
    usual = first["controllers"].get(names["controller"], {})
    controller_args = {**usual, **(config.get("controller_args") or {})}
    if usual and run.get("steps_to_remember") is not None:
        controller_args = {"memory_horizon": run["steps_to_remember"], **controller_args}
    ppo = {**LATER, **first["ppo"], **(config.get("ppo") or {})}
    ppo |= {name: task[name] for name in ("discount", "gae_lambda") if ppo[name] is None}
    ppo["critic"] = ppo["critic"] or usual_critic(ppo["discount"])
    horizon = config.get("horizon") or args.pop("horizon", None) or run.get("horizon")
    args.pop("horizon", None)
    rest = {"num_envs": first["num_envs"], **config, **names}
    return {**rest, "horizon": horizon, "task_args": args, "controller_args": controller_args, "ppo": ppo}


def completed(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of the first schema with its configuration resolved by the defaults of its time."""
    return {**run, "config": completed_config(run.get("config") or {}, run)}


def usual_episodes(task: str, steps: int, horizon: int) -> int:
    """Return the episodes of the final evaluation of a run that names no number.

    Args:
        task: of the run. An environment of Gymnasium is stepped one by one, so evaluating it costs what training does.
        steps: environment steps of training.
        horizon: of an episode.
    """
    whole = _episodes_to_spend(steps, horizon) / 3 if task.startswith(GYM) else MOST_EPISODES
    return min(MOST_EPISODES, max(1, int(whole)))


def usual_evaluations(task: str, steps: int, horizon: int, episodes: int) -> int:
    """Return the number of evaluations on the way of a run that does not say how often.

    Args:
        task: of the run.
        steps: environment steps of training.
        horizon: of an episode.
        episodes: those of the final evaluation; one on the way has a quarter of them.
    """
    if not task.startswith(GYM):
        return MOST_EVALUATIONS
    left = _episodes_to_spend(steps, horizon) - episodes
    return min(MOST_EVALUATIONS, max(1, int(left / max(1, episodes // 4))))


def _episodes_to_spend(steps: int, horizon: int) -> float:
    return steps * EVALUATION_SHARE / horizon


def usual_critic(
    discount: float, advantage: str = "gae", objective: str = "ppo"
) -> Literal["memory", "observation", "none"]:
    """Return the critic of a run that names none.

    None where draws are compared with each other or nothing is reinforced; one of the observation where nothing is
    bootstrapped from it.
    """
    if advantage != "gae" or objective != "ppo":
        return "none"
    return "memory" if discount else "observation"


def usual_num_envs(can_share: bool) -> int:
    """Return the environments of a run that names no number."""
    return 2048 if can_share else 64


def usual_draws(num_envs: int, can_share: bool) -> int:
    """Return how many environments share a script in a run that does not say."""
    fits = [draws for draws in range(1, 33) if num_envs % draws == 0 and draws * draws <= num_envs]
    return max(fits) if can_share else 1


def usual_minibatches(num_envs: int, draws: int) -> int:
    """Return the minibatches of a run that does not say: 64 scripts each, or 16 environments where none are shared."""
    return max(1, num_envs // draws // (64 if draws > 1 else 16))


def usual_optimizer(shares: bool) -> Literal["muon", "adam"]:
    """Return the optimiser of a run that names none.

    Args:
        shares: whether environments share scripts, or right actions are learnt from.
    """
    return "muon" if shares else "adam"


def usual_matrix_scale(optimizer: str, factor: float) -> float:
    """Return the rate of the controller's matrices relative to the others', of a run that does not say.

    Args:
        optimizer: of the run.
        factor: the controller's own.
    """
    return factor if optimizer == "muon" else 1.0


def usual_recurrent_scale(steps_to_remember: int) -> float:
    """Return the rate of recurrent parameters relative to the others', of a run that does not say.

    A GRU at the edge of remembering for H steps is pushed off it by steps that are too large: of learning rates tried
    on delayed cue the largest that learnt were 4e-3 at H = 40, 6e-4 at 200, 9e-5 at 1000 and 1e-5 at 5000.
    """
    return min(1.0, float((40 / max(1, steps_to_remember)) ** 1.25))


def usual_gradient_clip(steps_to_remember: int | None) -> GradientClip:
    """Return over which parameters the gradient's norm is taken, of a run that does not say."""
    return "by_group" if (steps_to_remember or 0) > LONGEST_GLOBAL else "global"


def nearest_recipe(config: Mapping[str, Any], steps_to_remember: int | None) -> tuple[str, dict[str, Any]]:
    """Return the recipe that a resolved configuration differs from least, the latest of equals, and how it differs."""
    found = {name: differences(config, name, steps_to_remember) for name in recipes()}
    name = min(reversed(found), key=lambda one: len(found[one]))
    return name, found[name]


def differences(config: Mapping[str, Any], recipe: str, steps_to_remember: int | None) -> dict[str, Any]:
    """Return the settings of a resolved configuration that are not those of a recipe.

    Which task, tier, controller and seed it is, how long its episodes are, how far it was trained and how it was
    evaluated are no part of this. A memory horizon is one where it is not the task's ``steps_to_remember``.
    """
    usual, task = recipes()[recipe], published(recipe, config["task"], config["difficulty"])
    expected = {**LATER_ARGUMENTS, **task["args"], **usual["controllers"].get(config["controller"], {})}
    given = {**(config.get("task_args") or {}), **(config.get("controller_args") or {})}
    expected |= {} if steps_to_remember is None else {"memory_horizon": steps_to_remember}
    for name in ("horizon", *(["workers"] if config["task"].startswith(GYM) else [])):  # workers change no number
        given.pop(name, None)
    own = {**LATER, **config["ppo"]}
    ppo = {**LATER, **usual["ppo"]}
    num_envs, draws = config["num_envs"], own["draws"]
    can_share = task.get("can_share", draws > 1)
    rules = {
        "discount": task["discount"],
        "gae_lambda": task["gae_lambda"],
        **{name: task.get(name, value) for name, value in NO_BONUS.items()},
        "critic": usual_critic(own["discount"], own["advantage"], config.get("objective", "ppo")),
        "draws": usual_draws(num_envs, can_share),
        "advantage": "group_mean" if draws > 1 else "gae",
        "minibatches": usual_minibatches(num_envs, draws),
        "optimizer": usual_optimizer(draws > 1 or config.get("objective") == "supervised"),
        "gradient_clip": usual_gradient_clip(steps_to_remember),
    }
    factor = usual.get("matrix_factors", {}).get(config["controller"], 1.0)
    rules["matrix_lr_scale"] = usual_matrix_scale(own["optimizer"], factor)
    if steps_to_remember is not None:
        rules["recurrent_lr_scale"] = usual_recurrent_scale(steps_to_remember)
    ppo |= {name: value for name, value in rules.items() if ppo[name] is None}
    found = {name: value for name, value in given.items() if name not in expected or expected[name] != value}
    if num_envs != (usual["num_envs"] or usual_num_envs(can_share)):
        found["num_envs"] = num_envs
    if config.get("init_from"):
        found["init_from"] = config["init_from"]
    return found | {name: value for name, value in own.items() if ppo.get(name) != value and name not in THE_SAME}
