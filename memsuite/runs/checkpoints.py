"""Checkpoints as files: which one a path means, whether it is whole, and whether it fits a network."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from memsuite.errors import UsageError
from memsuite.runs.config import NAMES, PPO_NAMES, RunConfig
from memsuite.runs.folder import CHECKPOINTS, LAST, PREVIOUS
from memsuite.runs.recipes import completed_config

log = logging.getLogger("memsuite")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint a path means: itself, or the newest whole one of a run folder."""
    path = Path(path)
    if path.is_dir():
        return newest_whole(path)
    if not path.is_file():
        raise UsageError(f"no checkpoint at {path}")
    return path


def newest_whole(folder: Path) -> Path:
    """Return the newest whole checkpoint of a run folder: the last, or the one kept from before it."""
    there = [path for name in (LAST, PREVIOUS) if (path := folder / CHECKPOINTS / name).is_file()]
    if not there:
        raise UsageError(f"no checkpoint at {folder / CHECKPOINTS / LAST}")
    for path in there:
        if damage_of(path) is None:
            if path != there[0]:
                log.warning("%s; going on from the one before it, %s", damage_of(there[0]), path)
            return path
    raise UsageError(f"{damage_of(there[0])}, and no whole one is kept beside it")


def damage_of(path: Path) -> str | None:
    """Say why a file is no whole memsuite checkpoint of plain values and tensors; None if it is one."""
    try:
        _read(path)
    except Exception as error:
        return f"{path} is not a whole memsuite checkpoint ({type(error).__name__})"
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a memsuite checkpoint, plain values and tensors only; anything else is a usage error."""
    try:
        checkpoint = _read(path)
    except Exception as error:
        text = f"{path} is not a whole memsuite checkpoint ({type(error).__name__})"
        before = path.with_name(PREVIOUS)
        if path.name == LAST and before.is_file() and not damage_of(before):
            text += f"; the one before it is whole: {before}"
        raise UsageError(text) from error
    saved = checkpoint["memsuite"]["config"]
    for kind, names, known in (("", saved, [*NAMES, "ppo"]), ("ppo.", saved["ppo"], PPO_NAMES)):
        if others := [name for name in names if name not in known]:
            raise UsageError(
                f"{path} is of another version of memsuite: it has {kind}{others[0]}, which this one has not"
            )
    return checkpoint


def begin_with(model: nn.Module, path: str | Path) -> None:
    """Give a network the weights in a checkpoint, but for a critic, which begins as it is where theirs is another.

    Args:
        model: an actor-critic.
        path: a run folder or a checkpoint.

    Raises:
        UsageError: it is no checkpoint, or of another network.
    """
    path = find_checkpoint(path)
    saved = read_checkpoint(path)["state_dict"]
    theirs = {name.removeprefix("model."): tensor for name, tensor in saved.items() if name.startswith("model.")}
    ours = {name: tensor.shape for name, tensor in model.state_dict().items()}
    fits = {name: tensor for name, tensor in theirs.items() if ours.get(name) == tensor.shape}
    if other := [name for name in {**ours, **theirs} if name not in fits and not name.startswith("critic.")]:
        here, there = ours.get(other[0]), theirs.get(other[0])
        here, there = ("missing" if one is None else list(getattr(one, "shape", one)) for one in (here, there))
        raise UsageError(f"init_from {path} is of another network: {other[0]} is {here} here and {there} there")
    model.load_state_dict(fits, strict=False)


def restored(build: Callable[..., ModuleT], path: str | Path, device: Any, settings: dict[str, Any]) -> ModuleT:
    """Build the module that a checkpoint was saved from, with its weights, its settings and its counts.

    Args:
        build: the module's class; takes the configuration, and single settings by name.
        path: a run folder or a checkpoint.
        device: where the module is put; None for the CPU.
        settings: what is to be other than it was saved, by the names of :class:`~memsuite.runs.config.RunConfig`.
            Lightning's own ``hparams_file``, ``strict`` and ``weights_only`` are not needed here: a checkpoint of
            memsuite holds its settings, all its weights are loaded, and it is read without running code from it.

    Raises:
        UsageError: it is no checkpoint, or not of the network that the settings describe.
    """
    if settings.pop("strict", None) is False or settings.pop("hparams_file", None) is not None:
        raise UsageError("strict=False and hparams_file are not supported; init_from begins a run with other weights")
    settings.pop("weights_only", None)
    if not isinstance(device, str | int | torch.device | None):
        raise UsageError(f"map_location is {device!r}; it must be one device, such as 'cpu' or 'cuda:0'")
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    module: Any = build(RunConfig.from_plain(completed_checkpoint(checkpoint["memsuite"])), **settings)
    check_weights(path, checkpoint["state_dict"], module, module.config.controller)
    module.load_state_dict(checkpoint["state_dict"])
    module.course.load_state_dict(checkpoint["memsuite"])
    return module if device is None else module.to(device)  # type: ignore[no-any-return]


def completed_checkpoint(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in a checkpoint with every default filled in, as they were when it was written.

    Args:
        saved: what memsuite has added to the checkpoint.
    """
    config: dict[str, Any] = saved["config"]
    return dict(config) if "schema" in saved else completed_config(config, {})


def check_weights(path: Path, weights: dict[str, Tensor], module: nn.Module, controller: str) -> None:
    """Raise a usage error if a checkpoint's weights are not those of the network that its settings describe."""
    ours = {name: tensor.shape for name, tensor in module.state_dict().items()}
    theirs = {name: tensor.shape for name, tensor in weights.items()}
    if other := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
        here, there = (list(side[other[0]]) if other[0] in side else "missing" for side in (ours, theirs))
        raise UsageError(
            f"{path} does not fit {controller} as it is now: {other[0]} is {here} here and {there} "
            "there; was its code changed since?"
        )


def check_sums(path: Path) -> None:
    """Raise an error for a checkpoint in which anything is not as it was written, which PyTorch does not look at."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")


def _read(path: Path) -> dict[str, Any]:
    check_sums(path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    saved = checkpoint["memsuite"]
    if not isinstance(saved["config"]["ppo"], dict) or not isinstance(checkpoint["state_dict"], dict):
        raise TypeError
    int(saved["iteration"])
    return checkpoint  # type: ignore[no-any-return]
