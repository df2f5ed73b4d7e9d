"""How far a memory reaches: its retention before training, and the success of a trained agent at longer horizons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from memsuite.analysis.density import recall_density
from memsuite.analysis.waiting import states_after
from memsuite.controllers import Controller
from memsuite.errors import UsageError
from memsuite.reading import read_value
from memsuite.runs.recipes import FIRST, recipes
from memsuite.tasks import Task
from memsuite.tasks.delayed_cue import DelayedCue
from memsuite.types import State

if TYPE_CHECKING:
    from memsuite.module import MemoryPPO

CUES = 8


@torch.no_grad()
def retention(controller: Controller, horizon: int) -> float:
    """Measure how much of the feature at a query depends on a cue shown ``horizon`` steps before.

    Each of :data:`CUES` rows shows its own cue (a one-hot of the first channels) at the first step, then blank steps,
    then at step ``horizon`` the same query (the last channel). The result is :func:`share_that_differs` of the
    features at the query. A policy can learn from 0.1 and cannot from 0.01.

    Args:
        controller: the model, ``input_dim`` at least :data:`CUES` + 1.
        horizon: steps of the episode, at least 2.

    Raises:
        UsageError: the observation is too narrow, or the horizon too short.
    """
    if controller.input_dim <= CUES or horizon < 2:
        raise UsageError(
            f"retention needs {CUES} cues and a query, and 2 steps; input_dim is {controller.input_dim}, "
            f"horizon {horizon}"
        )
    shown, asked = torch.zeros(CUES, controller.input_dim), torch.zeros(CUES, controller.input_dim)
    shown[:, :CUES], asked[:, -1] = torch.eye(CUES), 1.0
    (state,) = states_after(controller, shown, [horizon - 2])
    return share_that_differs(feature_at(controller, asked, state))


def feature_at(controller: Controller, asked_BD: Tensor, state: State) -> Tensor:
    """Return the features ``[B, F]`` of one further step, which does not begin an episode."""
    no = torch.zeros(1, len(asked_BD), dtype=torch.bool)
    return controller.forward_sequence(asked_BD.unsqueeze(0), state, no)[0][0]


def share_that_differs(features_BF: Tensor) -> float:
    """Return the norm of the part that differs between rows over the norm of the whole, with rows of unit size.

    Unit size, because the policy head reads normalised features. The result is 0 if all rows are equal, and about 1
    if the rows have nothing in common.
    """
    feature = nn.functional.rms_norm(features_BF, features_BF.shape[-1:], eps=1e-8)
    return float((feature - feature.mean(0)).norm() / feature.norm())


def settings_of(given: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return every combination of comma-separated values of the task's arguments, as YAML reads them.

    Args:
        given: name to text; empty for one setting that replaces nothing.
    """
    values = [[read_value(f"{name}={text}", value) for value in text.split(",")] for name, text in given.items()]
    return [dict(zip(given, one, strict=True)) for one in itertools.product(*values)]


def described(setting: Mapping[str, Any]) -> str:
    """Return arguments of a task in words: ``noise 0.1, jitter 20``."""
    return ", ".join(f"{name} {spelt(value)}" for name, value in setting.items())


def beyond(
    module: MemoryPPO,
    horizons: Sequence[int],
    episodes: int | None = 256,
    task_args: Mapping[str, Any] | None = None,
    counted: bool = False,
) -> Iterator[dict[str, Any]]:
    """Evaluate a trained agent at other horizons than its own, up to a million steps and more.

    Only the horizon of the task changes, and ``task_args``. The number of episodes side by side is chosen so that their
    total number of steps, and so the memory use, is about the same at every horizon. Drawn episodes are read step for
    step, whatever the delay holds.

    Args:
        module: a trained module (:func:`memsuite.load`) of a memsuite task.
        horizons: steps of an episode, in rising order.
        episodes: number of random episodes at each horizon; None for every possible episode, once
            (:func:`of_every_cue`).
        task_args: arguments of the task that replace those of training, such as ``{"noise": 0.1}``.
        counted: take every possible episode, once, where they can be counted, and draw only otherwise.

    Yields:
        One row per horizon: ``horizon``, ``success`` with its interval, ``episodes``, ``chance`` (the best without
        memory; None where it is unknown), ``score`` (None where no memory is needed), and ``retention``
        (:func:`retention`) if the observation is wide enough for its cues.
    """
    tasks = tasks_at(module, horizons, task_args)
    if counted and all(isinstance(task, DelayedCue) and task.one_a_cue() for task in tasks):
        episodes = None
    measured = of_every_cue(module, tasks) if episodes is None else of_draws(module, tasks, episodes)
    for task, found in zip(tasks, measured, strict=True):
        anchors = task.anchors()
        score = anchors.score(found["success"])
        known = {"chance": anchors.memoryless, "score": score}
        about = {name: None if math.isnan(value) else value for name, value in known.items()}
        yield {"horizon": task.horizon, **found, **about, "retention": found["retention"]}


def tasks_at(
    module: MemoryPPO, horizons: Sequence[int], task_args: Mapping[str, Any] | None = None, optional: bool = False
) -> list[Task]:
    """Return a module's task at these horizons, with arguments that replace those of training.

    Args:
        module: a trained module of a memsuite task.
        horizons: steps of an episode, in rising order.
        task_args: arguments that replace those of training.
        optional: leave out horizons that the task cannot have, but for the longest.

    Raises:
        UsageError: the horizons do not rise, the task cannot have one of them, or it has another number of inputs or
            actions than in training.
    """
    if not horizons or sorted(set(horizons)) != list(horizons):
        raise UsageError(f"horizons are {list(horizons)}; name one or more, in rising order")
    arguments, tasks = {**(module.config.task_args or {}), **(task_args or {})}, []
    for horizon in horizons:
        try:
            task = module.preset.make(**{**arguments, "horizon": horizon})
        except UsageError:
            if optional and horizon != horizons[-1]:
                continue
            raise
        for name in ("observation_dim", "action_space"):
            now, before = getattr(task, name), getattr(module.task, name)
            if now != before:
                raise UsageError(
                    f"with these task_args the task has {name} {now}, and the model was trained with {before}"
                )
        tasks.append(task)
    return tasks


def of_draws(module: MemoryPPO, tasks: Sequence[Task], episodes: int) -> Iterator[dict[str, Any]]:
    """Evaluate on random episodes, as in training; yield success with its interval over episodes, and retention."""
    from memsuite.rl import evaluate, stream

    controller = module.model.controller
    for task in tasks:
        found = evaluate(task, module.model, episodes, stream(module.seed, "retention"))
        if math.isnan(found["success"]):
            raise UsageError(
                f"{module.preset.task} scores no decision, so there is no success at any horizon to measure"
            )
        row: dict[str, Any] = {name: found[name] for name in ("success", "success_low", "success_high", "episodes")}
        yield row | {"retention": retention(controller, task.horizon) if controller.input_dim > CUES else None}


@torch.no_grad()
def of_every_cue(module: MemoryPPO, tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
    """Evaluate on every episode of delayed cue, one per cue, each read once to the longest horizon.

    No episode is random, so the success is that of the whole task and has no interval: both ends equal the success.
    It equals :func:`memsuite.rl.evaluate` on the same episodes.

    Raises:
        UsageError: the task has more than one episode per cue, or the horizons do not rise.
    """
    openings = []
    for task in tasks:
        if not isinstance(task, DelayedCue) or (episode := task.one_a_cue()) is None:
            raise UsageError("one episode per cue: only delayed_cue without jitter, rewrite and noise; draw a number")
        openings.append(episode)
    controller, (shown, asked, cues) = module.model.controller, openings[0]
    for state in states_after(controller, shown, [task.horizon - 2 for task in tasks]):
        logits, _, _ = module.model(asked.unsqueeze(0), state, torch.zeros(1, len(cues), dtype=torch.bool))
        success = float((logits[0].argmax(-1) == cues).double().mean())
        held = share_that_differs(feature_at(controller, asked, state))
        ends = {"success": success, "success_low": success, "success_high": success}
        yield {**ends, "episodes": len(cues), "retention": held}


def curve(module: MemoryPPO, horizons: Sequence[int], episodes: int | None = 256) -> dict[str, Any]:
    """Measure one agent at other horizons (:func:`beyond`); return the content of ``retention.json``.

    Returns:
        ``task``, ``difficulty``, ``controller``, ``seed``, ``controller_args``, ``trained_horizon``, ``curriculum``
        (None if there was none), ``half_life``, the ``rows``, in the form that
        :func:`memsuite.analysis.plots.success_beyond` draws, and ``density`` (:func:`recall_density`).
    """
    return curve_of(module, list(beyond(module, horizons, episodes)))


def curve_of(
    module: MemoryPPO, rows: list[dict[str, Any]], task_args: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Combine the rows of :func:`beyond` with the description of their agent, and of what the task was if replaced."""
    about: dict[str, Any] = {
        name: getattr(module.config, name) for name in ("task", "difficulty", "controller", "seed")
    }
    about["controller_args"] = module.config.controller_args
    if task_args:
        about["task_args"] = dict(task_args)
        about["trained_task_args"] = {name: (module.config.task_args or {}).get(name) for name in task_args}
    how = {"trained_horizon": module.task.horizon, "curriculum": module.course.curriculum}
    density = recall_density(module, task_args=task_args)
    return {**about, **how, "half_life": half_life(rows), "rows": rows, "density": density}


def group_reports(reports: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group the reports by model: its name, and the settings that distinguish the models of the reports."""
    tasks = {(report["task"], report["difficulty"]) for report in reports}
    groups: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        name = report["controller"]
        if len(tasks) > 1:
            name += f" on {report['task']}-{report['difficulty']}"
        if len({one["trained_horizon"] for one in reports}) > 1:
            name += f", {report['trained_horizon']:,} steps"
        name += "".join(f", {setting} {spelt(value)}" for setting, value in own_arguments(report).items())
        if report.get("task_args"):
            name += f", {described(report['task_args'])}, trained with {described(report['trained_task_args'])}"
        if used := report.get("curriculum"):
            name += f", from {used['start']}"
        groups.setdefault(name, []).append(report)
    return groups


def spelt(value: Any) -> str:
    """Return a setting's value in its shortest form: ``1`` for 1.0."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def own_arguments(report: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a report's controller that differ from the first recipe, except ``memory_horizon``."""
    usual = recipes()[FIRST]["controllers"].get(report["controller"], {})
    given = report.get("controller_args") or {}
    return {name: value for name, value in given.items() if name != "memory_horizon" and usual.get(name) != value}


def half_life(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return the horizon at which the score has fallen to half of its highest value, interpolated in the log horizon.

    None if the score never falls so far, was never above 0, or is not there.
    """
    rows = sorted(rows, key=lambda row: int(row["horizon"]))
    if any(row["score"] is None for row in rows):
        return None
    scores = [float(row["score"]) for row in rows]
    top = scores.index(max(scores))
    half = scores[top] / 2
    if half <= 0:
        return None
    for before, after in zip(rows[top:], rows[top + 1 :], strict=False):
        high, low = float(before["score"]), float(after["score"])
        if low <= half:
            share = (high - half) / (high - low)
            return math.exp(math.log(before["horizon"]) * (1 - share) + math.log(after["horizon"]) * share)
    return None
