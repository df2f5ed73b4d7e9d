"""A picture of one episode: time by observation channel, with scored steps marked and their targets above."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import ScriptedTask, Task
from memsuite.tasks.mazes.distractor_nav import DistractorNav
from memsuite.tasks.mazes.t_maze import TMaze
from memsuite.tasks.policies import oracle
from memsuite.tasks.second.key_to_door import KeyToDoor

ACTIONS = {DistractorNav: "·↑↓←→", TMaze: "→↑←↓", KeyToDoor: "01234567pe"}  # of the key: doors, pick up, eat
INK, MINUS, MARK, GRID = "#1f4e79", "#e08214", "#c0392b", "#d0d0d0"


def draw_episode(task: Task, title: str, path: Path, generator: torch.Generator) -> None:
    """Draw one episode into a PNG file.

    Args:
        task: a scripted task, or a task with an oracle policy, which then plays.
        title: the picture's title.
        path: the file to write.
        generator: source of the episode.
    """
    pyplot, colors = _import_matplotlib()
    if isinstance(task, ScriptedTask):
        observations, above, what = _scripted_episode(task, generator)
    else:
        observations, above, what = _played_episode(task, generator)
    steps, width = observations.shape
    figure, axes = pyplot.subplots(figsize=(11, 1.3 + 0.14 * max(width, 12)), layout="constrained", dpi=110)
    colormap = colors.LinearSegmentedColormap.from_list("memsuite", [MINUS, "white", INK])
    for name in {"lure", "distractor"} & set(task.layout):  # paler, so that the tokens that count stand out
        observations = torch.where(observations[:, task.channel(name)] > 0, 0.35 * observations, observations)
    axes.imshow(observations.T.numpy(), cmap=colormap, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    _channels(axes, task.layout, steps)
    for step, text in above.items():
        axes.axvspan(step - 0.5, step + 0.5, color=MARK, alpha=0.13, linewidth=0)
        size = 9 if steps <= 60 else 8
        place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        axes.annotate(text, (step, -0.5), **place, color=MARK, fontsize=size, weight="bold")
    axes.set_xlim(-0.5, steps - 0.5)
    axes.set_xlabel("step")
    axes.set_title(f"{title}    (in red: {what})", loc="left", pad=22, fontsize=11)
    figure.savefig(path)
    pyplot.close(figure)


def _channels(axes: Any, layout: dict[str, int], steps: int) -> None:
    start, ticks, names = 0, [], []
    for name, size in layout.items():
        axes.axhline(start - 0.5, color="black", linewidth=0.8)
        ticks.append(start + (size - 1) / 2)
        names.append(name if size == 1 else f"{name}\n0 to {size - 1}" if size > 2 else name)
        start += size
    axes.set_yticks(ticks, names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.hlines([row + 0.5 for row in range(start - 1)], -0.5, steps - 0.5, color=GRID, linewidth=0.3)
    if steps <= 120:
        axes.vlines([step + 0.5 for step in range(steps - 1)], -0.5, start - 0.5, color=GRID, linewidth=0.3)


def _scripted_episode(task: ScriptedTask, generator: torch.Generator) -> tuple[Tensor, dict[int, str], str]:
    script = task.script(1, generator)
    scored = script.scored[:, 0].nonzero().flatten().tolist()
    return (
        script.observations[:, 0],
        {step: str(int(script.targets[step, 0])) for step in scored},
        "scored steps and their targets",
    )


def _played_episode(task: Task, generator: torch.Generator) -> tuple[Tensor, dict[int, str], str]:
    policy, now, rows, above = oracle(task), task.reset(1, generator), [], {}
    for step in range(task.horizon):
        rows.append(now.observation)
        actions = policy(torch.stack(rows), step, generator)
        now = task.step(actions)
        # Of the steps whose actions may be rewarded, those at which something is shown, and those that must be stepped.
        matters = step >= task.passive_steps and (step >= task.known_steps or bool(rows[-1].any()))
        if type(task) in ACTIONS and matters:
            above[step] = ACTIONS[type(task)][int(actions[0])]
    return torch.stack(rows)[:, 0], above, "the oracle's moves, of which the last is scored"


def _import_matplotlib() -> tuple[Any, Any]:
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError as error:
        raise UsageError("drawing needs matplotlib; pip install matplotlib") from error
    matplotlib.use("agg")
    return importlib.import_module("matplotlib.pyplot"), importlib.import_module("matplotlib.colors")
