"""Building again what a checkpoint was saved from, once it is seen that all of it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from memsuite.controllers import CONTROLLERS, controller_class
from memsuite.controllers.base import check_given
from memsuite.errors import UsageError
from memsuite.imports import COPIES, also_in
from memsuite.rl.resolve import build_config, plan, resolve
from memsuite.rl.saved.classes import check_defaults
from memsuite.runs import RunConfig
from memsuite.runs.checkpoints import (
    check_weights,
    completed_checkpoint,
    find_checkpoint,
    read_checkpoint,
)
from memsuite.runs.folder import SOURCE
from memsuite.runs.recipes import GYM
from memsuite.runs.seal import is_sealed
from memsuite.runs.trust import check_names, module_in
from memsuite.tasks import TASKS
from memsuite.tasks.registry import task_class

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def restored(build: Callable[..., ModuleT], path: str | Path, device: Any, settings: dict[str, Any]) -> ModuleT:
    """Build the module that a checkpoint was saved from, with its weights, its settings and its counts.

    Args:
        build: the module's class; takes the configuration, and single settings by name.
        path: a run folder or a checkpoint.
        device: where the module is put; None for the CPU.
        settings: what is to be other than it was saved, by the names of :class:`~memsuite.runs.config.RunConfig`, and
            ``trust``: whether modules may be imported that the file names.
            Lightning's own ``hparams_file``, ``strict`` and ``weights_only`` are not needed here: a checkpoint of
            memsuite holds its settings, all its weights are loaded, and it is read without running code from it.

    Raises:
        UsageError: it is no checkpoint, names a module that is not trusted, or is not of the network that the settings
            describe.
    """
    if settings.pop("strict", None) is False or settings.pop("hparams_file", None) is not None:
        raise UsageError("strict=False and hparams_file are not supported; init_from begins a run with other weights")
    settings.pop("weights_only", None)
    trust = settings.pop("trust", False)
    if not isinstance(device, str | int | torch.device | None):
        raise UsageError(f"map_location is {device!r}; it must be one device, such as 'cpu' or 'cuda:0'")
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    config = completed_checkpoint(checkpoint["memsuite"])
    if not (trust or is_sealed(checkpoint["memsuite"])):
        check_names(path, config, settings)
    copies = path.parent.parent / SOURCE
    if trust:
        also_in(copies)
    COPIES.append(copies)
    if not trust:
        check_defaults(path, checkpoint["memsuite"])
    with settings_of(path):
        saved = RunConfig.from_plain(config)
        check_size(path, checkpoint["state_dict"], saved)
        module: Any = build(build_config(saved, settings))
    check_weights(path, checkpoint["state_dict"], module, module.config.controller)
    module.load_state_dict(checkpoint["state_dict"])
    module.course.load_state_dict(checkpoint["memsuite"])
    return module if device is None else module.to(device)  # type: ignore[no-any-return]


@contextmanager
def settings_of(path: Path) -> Iterator[None]:
    """Name the file in what is said of settings that come from it."""
    try:
        yield
    except UsageError as error:
        text = str(error)
        raise UsageError(text if str(path) in text else f"{path}: {text}") from error


def check_size(path: Path, weights: Mapping[str, Tensor], config: RunConfig) -> None:
    """Refuse settings of another size than the weights in the file, before a network of that size is built.

    Args:
        path: the file, for the message.
        weights: what it holds.
        config: the settings of the run.

    Raises:
        UsageError: the two do not belong together.
    """
    for name, find in ((config.task, task_class), (config.controller, controller_class)):
        if not module_in(name) and not name.startswith(GYM):
            find(name)
    if config.task not in TASKS or config.controller not in CONTROLLERS:
        return  # trusted code, which decides on its sizes itself
    config, course = plan(config)
    resolve(config, course)
    cls, arguments = CONTROLLERS[config.controller], config.controller_args or {}
    check_given(config.controller, cls, arguments)
    depth, actions = arguments.get("depth", 1), weights.get("model.actor.bias")
    if isinstance(depth, int) and depth > len(weights):
        raise UsageError(f"{path}: depth is {depth}, but the file holds {len(weights)} weights")
    if actions is not None and list(actions.shape) != [course.full_task.num_actions]:
        raise _misfit(path, config, "model.actor.bias", [course.full_task.num_actions], list(actions.shape))
    try:
        with torch.device("meta"):  # shapes without numbers
            shapes = cls(input_dim=course.full_task.observation_dim, **arguments).state_dict()
    except Exception:  # so does it where arguments are of the wrong kind
        return
    for name, tensor in shapes.items():
        saved = weights.get(f"model.controller.{name}")
        if saved is not None and saved.shape != tensor.shape:
            raise _misfit(path, config, f"model.controller.{name}", list(tensor.shape), list(saved.shape))


def _misfit(path: Path, config: RunConfig, name: str, here: list[int], there: list[int]) -> UsageError:
    text = f"{path} does not fit {config.controller} as it is now: {name} is {here} here and {there} there"
    return UsageError(f"{text}; was its code changed since?")
