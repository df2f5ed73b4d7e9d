"""The inputs of the probes: episodes of a task, the decision to decode, and the layers of a controller."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.controllers import Controller, Stack
from memsuite.errors import UsageError
from memsuite.tasks import ScriptedTask, Task
from memsuite.types import Script


def draw(task: Task, episodes: int, seed: int = 0) -> Script:
    """Draw whole episodes of a scripted task; the same seed gives the same episodes. UsageError for other tasks."""
    if not isinstance(task, ScriptedTask):
        raise UsageError(f"{type(task).__name__} is interactive; the probes read tasks whose episodes can be drawn")
    return task.script(episodes, torch.Generator().manual_seed(seed))


def question(script: Script, decision: int = -1) -> tuple[Tensor, Tensor]:
    """Find one scored decision of every episode.

    Args:
        script: episodes, all with the same number of scored decisions.
        decision: index of the decision; negative counts from the last.

    Returns:
        The right actions ``[B]`` and the steps of the decisions ``[B]``.
    """
    counts = script.scored.sum(0)
    most = int(counts.min())
    if not -most <= decision < most:
        raise UsageError(f"decision {decision} is not there: an episode has {most} scored decisions, counted from 0")
    number = torch.where(torch.tensor(decision < 0), counts + decision, torch.full_like(counts, decision))
    is_it = script.scored & (script.scored.long().cumsum(0) - 1 == number)
    steps = is_it.long().argmax(0)
    return script.targets.gather(0, steps.unsqueeze(0)).squeeze(0), steps


def first_steps(observations: Tensor) -> Tensor:
    """Mark the first step of episodes ``[T, B, D]`` side by side; return bool ``[T, B]``."""
    is_first = torch.zeros(observations.shape[:2], dtype=torch.bool, device=observations.device)
    is_first[0] = True
    return is_first


def as_its_own(controller: Controller, observations: Tensor) -> Tensor:
    """Return observations on the device and in the precision of a controller; refuse those of another width."""
    width = observations.shape[-1]
    if width != controller.input_dim:
        raise UsageError(f"observations are {width} wide, the controller's input_dim is {controller.input_dim}")
    weight = next(controller.parameters(), None)
    return observations if weight is None else observations.to(weight)


def layers_of(controller: Controller) -> list[Controller]:
    """Return the layers of a stack, from the input up; for any other controller, the controller alone."""
    return controller.layers if isinstance(controller, Stack) else [controller]


def layer_input(controller: Controller, observations: Tensor, layer: int) -> tuple[Controller, Tensor]:
    """Return one layer of a controller, and its input ``[T, B, width]`` for episodes ``[T, B, D]``."""
    layers = layers_of(controller)
    if not -len(layers) <= layer < len(layers):
        raise UsageError(f"layer {layer} is not there: the controller has {len(layers)}, counted from 0")
    x = as_its_own(controller, observations)
    if not isinstance(controller, Stack):
        return controller, x
    state = controller.init_state(x.shape[1])
    return layers[layer], controller.layer_inputs(x, state, first_steps(x))[layer]


def cue_then_blanks(controller: Controller, steps: int, cues: int = 8) -> Tensor:
    """Return episodes ``[steps, cues, input_dim]``: a cue each (a one-hot of the first channels), then blanks."""
    if cues > controller.input_dim:
        raise UsageError(f"{cues} cues do not fit into an observation of {controller.input_dim}")
    observations = torch.zeros(steps, cues, controller.input_dim)
    observations[0, :, :cues] = torch.eye(cues)
    return observations
