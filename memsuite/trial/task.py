"""A task of the user's own, tried: its anchors, its scripts or steps, a save and a load of its state."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from memsuite.blame import blamed_on, words_of
from memsuite.errors import Stopped, UsageError
from memsuite.tasks import ScriptedTask, Task
from memsuite.tasks.gym_task import GymTask
from memsuite.tasks.reveal import Revealed
from memsuite.types import Script, TimeStep

WIDE, LARGE = 1024, 20.0  # numbers of an observation, and their size, from which on a network reads them badly
ENVS = 5
FIELDS = ("observations", "targets", "scored")  # of a script
MOST = 200_000  # steps of all environments that a trial draws
EPISODES = 64
STEPS = 20  # that a task is taken on after a load
MANY = 16  # environments of which some will tell by their rewards that something was lost
SHOWN = ("observation", "is_first", "reward", "terminated", "truncated", "scored", "correct")


def try_task(who: str, task: Task, device: torch.device) -> Iterator[str]:
    """Try a task on a copy of it; yield what the user should know of.

    Args:
        who: names it, and where it stands.
        task: what is trained on.
        device: where the run will be.

    Raises:
        UsageError: one line that says what is wrong.
    """
    who = f"task {who}"
    with blamed_on(who):
        if isinstance(task, GymTask):
            yield from try_environment(who, task, device)
            return
        check_anchors(who, task)
        task = task.fresh()
        if isinstance(task, ScriptedTask):
            check_script(who, task, device)
        else:
            check_steps(who, task, device)
        check_state(who, task, device)


def try_environment(who: str, task: GymTask, device: torch.device) -> Iterator[str]:
    """Take a few steps in an environment, which checks what it is given itself."""
    with contextlib.closing(task.fresh()) as task:
        try:
            seen = [task.reset(1, _generator(device)).observation]
            actions = [task.action_space.random(1, device=device) for _ in range(3)]
            seen += [task.step(action).observation for action in actions]
        except Stopped as error:
            raise UsageError(str(error)) from error.__cause__
        if task.masked:
            yield f"{who}: an action that its action_mask does not allow is taken as the next one that it allows"
        largest = float(torch.stack(seen).abs().max())
        width = task.observation_dim - sum(image.size for image in task.images)
        if width >= WIDE or largest > LARGE:
            image = ", read the image with --task_args.image convolution" if task.flattened else ""
            rest = " besides its image" if task.images else ""
            yield (
                f"{who}: an observation is {width:,} numbers{rest} of up to {largest:.4g}, which the network "
                "reads as they are; make them few and about 1 in size in a wrapper (gymnasium.wrappers: "
                f"RescaleObservation, ResizeObservation, TransformObservation){image}, or leave some out with "
                "--task_args.mask"
            )


def first_steps(task: Task, steps: int, device: torch.device) -> Tensor:
    """Return the first observations of an episode whose actions are drawn at random, ``[steps, D]``."""
    generator = _generator(device)
    with contextlib.closing(task.fresh()) as task:
        seen = [task.reset(1, generator).observation[0]]
        for _ in range(steps - 1):
            action = task.action_space.random(1, device=device)
            seen.append(task.step(action).observation[0])
    return torch.stack(seen)


def check_anchors(who: str, task: Task) -> None:
    """Refuse anchors that are no numbers in [0, 1] in their order; NaN stands for one that nobody knows."""
    anchors = task.anchors()
    for name in ("random", "memoryless", "oracle", "unbound"):
        value: Any = getattr(anchors, name, None)
        if value is None and name == "unbound":
            continue
        if type(value) not in (int, float):
            raise UsageError(f"{who}: anchors(): {name} is {value!r}; it must be a plain number, float(...)")
        if not (math.isnan(value) or 0 <= value <= 1):
            raise UsageError(f"{who}: anchors(): {name} is {value}; a success lies between 0 and 1")
    if anchors.oracle <= anchors.memoryless and not isinstance(task, Revealed):  # whoever reads the answer has it
        raise UsageError(
            f"{who}: anchors(): oracle {anchors.oracle} is not above memoryless {anchors.memoryless}, so no score can "
            "be told; give NaN for what is not known"
        )


def check_script(who: str, task: ScriptedTask, device: torch.device) -> None:
    """Refuse scripts whose shapes, kinds or values are others than they must be, or that nobody can reproduce."""
    envs = max(1, min(ENVS, MOST // task.horizon))
    script = task.script(envs, _generator(device))
    check_layout(who, task, script, envs)
    torch.manual_seed(7)
    again = task.script(envs, _generator(device))
    if not all(torch.equal(getattr(script, name), getattr(again, name)) for name in FIELDS):
        raise UsageError(
            f"{who}: script() draws other numbers from an equal generator; all it draws must come from the one given"
        )
    generator, drawn = _generator(device), 0
    while not script.scored.any():
        drawn += envs
        if drawn > EPISODES:
            raise UsageError(f"{who}: no step of {EPISODES} episodes is scored, so there is nothing to learn")
        script = task.script(envs, generator)
    right = script.targets[script.scored.bool()]
    if int(right.min()) < 0 or int(right.max()) >= task.num_actions:
        raise UsageError(
            f"{who}: script() has targets from {int(right.min())} to {int(right.max())}; actions count from 0 to "
            f"{task.num_actions - 1}"
        )


def check_layout(who: str, task: Task, script: Any, envs: int) -> None:
    """Refuse a script that is not of the declared shapes and kinds."""
    if not isinstance(script, Script):
        raise UsageError(f"{who}: script() returns a {type(script).__name__}; it must be a memsuite.types.Script")
    shape = [task.horizon, envs]
    wanted = {"observations": [*shape, task.observation_dim], "targets": shape, "scored": shape}
    for name, size in wanted.items():
        value = getattr(script, name)
        if not isinstance(value, Tensor):
            raise UsageError(f"{who}: script() has {name} as {type(value).__name__}; it must be a tensor")
        if list(value.shape) != size:
            raise UsageError(
                f"{who}: script({envs}, ..) has {name} of shape {list(value.shape)}; horizon {task.horizon}, "
                f"environments and widths ask for {size}"
            )
        if name != "observations" and (value.is_floating_point() or value.is_complex()):
            kinds = "bool" if name == "scored" else "whole numbers"
            raise UsageError(f"{who}: script() has {name} of {value.dtype}; they must be {kinds}")
    if script.observations.is_complex():
        raise UsageError(f"{who}: script() has observations of complex numbers; they must be real")
    if not torch.isfinite(script.observations.float()).all():
        raise UsageError(f"{who}: script() has observations that are not finite")


def check_steps(who: str, task: Task, device: torch.device) -> None:
    """Act at random through an episode and a step; refuse what is not shown as it must be."""
    envs = max(1, min(ENVS, MOST // task.horizon))
    check_shown(who, "reset", task, task.reset(envs, _generator(device)), envs)
    over = torch.zeros(envs, dtype=torch.bool, device=device)
    for _ in range(min(task.horizon, 200)):
        now = task.step(task.action_space.random(envs, device=device))
        check_shown(who, "step", task, now, envs)
        over = over | now.terminated | now.truncated
    if task.horizon <= 200 and not over.all():
        raise UsageError(f"{who}: an episode goes on after its horizon, {task.horizon} steps; it must end there")


def check_shown(who: str, where: str, task: Task, now: Any, envs: int) -> None:
    """Refuse a step that is not of the declared shapes and kinds, or that contradicts itself."""
    if not isinstance(now, TimeStep):
        raise UsageError(f"{who}: {where}() returns a {type(now).__name__}; it must be a memsuite.types.TimeStep")
    for name in SHOWN:
        value = getattr(now, name)
        check_part(who, f"{where}() shows {name}", value, [envs, task.observation_dim][: 1 + (name == "observation")])
        if name not in ("observation", "reward") and value.dtype != torch.bool:
            raise UsageError(f"{who}: {where}() shows {name} of {value.dtype}; it must be bool")
        if not torch.isfinite(value.float()).all():
            raise UsageError(f"{who}: {where}() shows {name} that is not finite")
    cut, begins = now.truncated & ~now.terminated, now.terminated | now.truncated
    if not torch.equal(now.is_first, torch.ones_like(begins) if where == "reset" else begins):
        raise UsageError(
            f"{who}: {where}() shows is_first {now.is_first.tolist()}; it must be true where an episode begins: at "
            "reset() everywhere, and at step() where the one before it has terminated or was truncated"
        )
    if bool((now.correct & ~now.scored).any()):
        raise UsageError(f"{who}: {where}() shows correct where nothing is scored")
    if bool(cut.any()):
        check_final(who, where, task, now.final_observation, cut)


def check_final(who: str, where: str, task: Task, final: Any, cut: Tensor) -> None:
    """Refuse a final observation that cannot be valued where an episode was cut."""
    if final is None:
        raise UsageError(f"{who}: {where}() truncates an episode without its final_observation")
    check_part(who, f"{where}() shows final_observation", final, [len(cut), task.observation_dim])
    if not torch.isfinite(final[cut].float()).all():
        raise UsageError(f"{who}: {where}() shows final_observation that is not finite")


def check_part(who: str, what: str, value: Any, size: list[int]) -> None:
    """Refuse what is no tensor of real numbers of a size."""
    if not isinstance(value, Tensor) or list(value.shape) != size:
        given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"{who}: {what} of shape {given}; it must be {size}")
    if value.is_complex():
        raise UsageError(f"{who}: {what} of complex numbers; they must be real")


def check_state(who: str, task: Task, device: torch.device) -> None:
    """Refuse a task that does not go on as it was from what a checkpoint holds of it."""
    generator, other = _generator(device), torch.Generator(device)
    task.reset(MANY, generator)
    actions = task.action_space.random(STEPS, MANY, device=device)
    task.step(actions[0])
    now = task.step(actions[1])
    other.set_state(generator.get_state())
    again = task.fresh()
    loaded = again.load_state_dict(_saved(who, task), other)
    check_alike(who, now, loaded, ("observation", "is_first"))  # a checkpoint is no step, which would have a reward
    for drawn in actions[: min(STEPS, task.horizon + 1)]:
        check_alike(who, task.step(drawn), again.step(drawn), SHOWN)


def check_alike(who: str, one: TimeStep, other: TimeStep, names: tuple[str, ...]) -> None:
    """Refuse a step that is another after a load."""
    for name in names:
        if not torch.equal(getattr(one, name), getattr(other, name)):
            raise UsageError(
                f"{who}: it goes on otherwise from its state_dict() than without (another {name}): a run could not be "
                "gone on with"
            )


def _saved(who: str, task: Task) -> Any:
    """Return what a checkpoint would hold of a task."""
    file = io.BytesIO()
    torch.save(task.state_dict(), file)
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"{who}: state_dict() holds more than plain values and tensors: {words_of(error)}") from error


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(1)
