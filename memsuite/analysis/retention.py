"""How far a memory reaches: what it holds before any training, and what a trained agent still knows far beyond it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from memsuite.controllers import Controller

if TYPE_CHECKING:
    from memsuite.module import MemoryPPO

CUES = 8
BLOCK = 1024  # steps read at once, so that the longest horizons need no more memory than the state


@torch.no_grad()
def retention(controller: Controller, horizon: int) -> float:
    """Measure how much of the feature at a query depends on a cue shown ``horizon`` steps before.

    Each of :data:`CUES` rows is shown a cue of its own (a one-hot of the first channels) at the first step, then blank
    steps, then at step ``horizon`` the same query (the last channel). The answer is the norm of the part that differs
    between rows over the norm of the whole, of the features as the policy head reads them, each brought to unit size:
    0 if nothing of the cue is left, about 1 if there is nothing else. A policy can learn from 0.1 and does not
    from 0.01.

    Args:
        controller: the model, ``input_dim`` at least :data:`CUES` + 1.
        horizon: steps of the episode, at least 2.
    """
    state, feature = controller.init_state(CUES), torch.empty(0)
    for x, is_first in _blank_episodes(horizon, controller.input_dim):
        features, state = controller.forward_sequence(x, state, is_first)
        feature = features[-1]
    feature = nn.functional.rms_norm(feature, feature.shape[-1:], eps=1e-8)
    return float((feature - feature.mean(0)).norm() / feature.norm())


def _blank_episodes(horizon: int, width: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the episodes of :func:`retention` block by block: observations ``[T, B, D]`` and first steps ``[T, B]``."""
    for begin in range(0, horizon, BLOCK):
        steps = min(BLOCK, horizon - begin)
        x, is_first = torch.zeros(steps, CUES, width), torch.zeros(steps, CUES, dtype=torch.bool)
        if begin == 0:
            x[0, :, :CUES], is_first[0] = torch.eye(CUES), True
        if begin + steps == horizon:
            x[-1, :, -1] = 1.0
        yield x, is_first


def beyond(module: MemoryPPO, horizons: Sequence[int], episodes: int = 256) -> Iterator[dict[str, Any]]:
    """Evaluate a trained agent at other horizons than its own, the longest a million steps and more.

    Only the horizon of the task changes. So many episodes run side by side that their steps are about the same number
    at every horizon, and so is the memory it takes.

    Args:
        module: a trained one (:func:`memsuite.load`), of a task of ours.
        horizons: steps of an episode.
        episodes: at each horizon.

    Yields:
        One row a horizon: ``horizon``, ``success`` with its interval, ``episodes``, ``chance`` (the best without
        memory), ``score``, and ``retention`` (:func:`retention`) where the observation is wide enough for its cues.
    """
    from memsuite.rl import evaluate, stream

    config = module.config
    controller = module.model.controller
    for horizon in horizons:
        task = module.preset.make(**{**(config["task_args"] or {}), "horizon": horizon})
        anchors = task.anchors()
        found = evaluate(task, module.model, episodes, stream(module.seed, "retention"))
        row = {"horizon": horizon, **{k: found[k] for k in ("success", "success_low", "success_high", "episodes")}}
        row |= {"chance": anchors.memoryless, "score": anchors.score(found["success"])}
        held = retention(controller, horizon) if controller.input_dim > CUES else None
        yield row | {"retention": held}


def curve(module: MemoryPPO, horizons: Sequence[int], episodes: int = 256) -> dict[str, Any]:
    """Measure one agent at other horizons (:func:`beyond`), and say which agent it was: what ``retention.json`` holds.

    Returns:
        ``task``, ``difficulty``, ``controller``, ``seed``, ``trained_horizon``, ``half_life`` and the ``rows``; what
        :func:`memsuite.analysis.plots.success_beyond` draws.
    """
    return curve_of(module, list(beyond(module, horizons, episodes)))


def curve_of(module: MemoryPPO, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the rows of :func:`beyond` together with which agent they are of."""
    about = {name: module.config[name] for name in ("task", "difficulty", "controller", "seed")}
    return {**about, "trained_horizon": module.task.horizon, "half_life": half_life(rows), "rows": rows}


def half_life(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return the horizon at which the score has fallen to half of the highest, between rows in the log of the horizon.

    None if it never falls so far, or was never above 0.
    """
    rows = sorted(rows, key=lambda row: int(row["horizon"]))
    scores = [float(row["score"]) for row in rows]
    top = scores.index(max(scores))
    half = scores[top] / 2
    if half <= 0:
        return None
    for before, after in zip(rows[top:], rows[top + 1 :], strict=False):
        high, low = float(before["score"]), float(after["score"])
        if low < half:
            share = (high - half) / (high - low)
            return math.exp(math.log(before["horizon"]) * (1 - share) + math.log(after["horizon"]) * share)
    return None
