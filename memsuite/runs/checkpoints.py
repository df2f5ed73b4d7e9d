"""Checkpoints as files: which one a path means, whether it is whole, and whether it fits a network."""

from __future__ import annotations

import hashlib
import logging
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memsuite.errors import UsageError
from memsuite.runs.config import NAMES, PPO_NAMES
from memsuite.runs.contents import FLOATS, check_contents
from memsuite.runs.folder import CHECKPOINTS, LAST, PREVIOUS, RESULT
from memsuite.runs.hints import shown
from memsuite.runs.kinds import Wrong
from memsuite.runs.recipes import completed_config

log = logging.getLogger("memsuite")


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint a path means: itself, or the newest whole one of a run folder."""
    path = Path(path)
    if path.is_dir():
        return newest_whole(path)
    if not path.is_file():
        raise UsageError(f"no checkpoint at {path}")
    return path


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of the checkpoint that a path means."""
    return hashlib.sha256(find_checkpoint(path).read_bytes()).hexdigest()


def is_of_another(measured: str | None, folder: Path) -> bool:
    """Tell whether a fingerprint is of another checkpoint than the one in a run folder, as far as both are known."""
    try:
        return measured is not None and measured != fingerprint(folder)
    except UsageError:  # no checkpoint is kept
        return False


def run_folders_in(paths: list[Path]) -> list[Path]:
    """Return the run folders and checkpoints that are meant: a folder without a checkpoint stands for the runs in it.

    All of them are looked for before the first is measured.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted({file.parent for file in path.rglob(RESULT)}) if path.is_dir() else []
        is_run = not inside or (path / CHECKPOINTS).is_dir()
        found += [path] if is_run else inside
    for path in found:
        find_checkpoint(path)
    return found


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
        whole(path)
    except UsageError as error:
        return str(error)
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a memsuite checkpoint, plain values and tensors only; anything else is a usage error."""
    try:
        checkpoint = whole(path)
    except UsageError as error:
        before = path.with_name(PREVIOUS)
        if path.name == LAST and before.is_file() and not damage_of(before):
            raise UsageError(f"{error}; the one before it is whole: {before}") from error
        raise
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
    state = model.state_dict()
    ours = {name: tensor.shape for name, tensor in state.items()}
    fits = {name: tensor for name, tensor in theirs.items() if ours.get(name) == tensor.shape}
    for name, tensor in fits.items():
        if not same_kind(tensor.dtype, state[name].dtype):
            raise UsageError(f"init_from {path}: the weight {name} is {shown(tensor)}; here it is {shown(state[name])}")
    if other := [name for name in {**ours, **theirs} if name not in fits and not name.startswith("critic.")]:
        here, there = ours.get(other[0]), theirs.get(other[0])
        here, there = ("missing" if one is None else list(getattr(one, "shape", one)) for one in (here, there))
        raise UsageError(f"init_from {path} is of another network: {other[0]} is {here} here and {there} there")
    model.load_state_dict(fits, strict=False)


def completed_checkpoint(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in a checkpoint with every default filled in, as they were when it was written.

    Args:
        saved: what memsuite has added to the checkpoint.
    """
    config: dict[str, Any] = saved["config"]
    return dict(config) if "schema" in saved else completed_config(config, {})


def check_weights(path: Path, weights: dict[str, Tensor], module: nn.Module, controller: str) -> None:
    """Raise a usage error if a checkpoint's weights are not those of the network that its settings describe."""
    ours, text = module.state_dict(), f"{path} does not fit {controller} as it is now"
    for name in {**ours, **weights}:
        here, there = (list(side[name].shape) if name in side else "missing" for side in (ours, weights))
        if here != there:
            raise UsageError(f"{text}: {name} is {here} here and {there} there; was its code changed since?")
        if not same_kind(ours[name].dtype, weights[name].dtype):
            raise UsageError(f"{text}: the weight {name} is {shown(weights[name])}; here it is {shown(ours[name])}")


def same_kind(one: torch.dtype, other: torch.dtype) -> bool:
    """Tell whether numbers of two kinds may take each other's place: real ones of any width, others of their own."""
    return one == other or (one in FLOATS and other in FLOATS)


def check_sums(path: Path) -> None:
    """Raise an error for a checkpoint in which anything is not as it was written, which PyTorch does not look at."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
        if packed or sum(part.file_size for part in parts) > path.stat().st_size:
            raise zipfile.BadZipFile("it unpacks to more than it is")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")


def whole(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint whose sums are right and whose contents are of the kinds that a run leaves there.

    Args:
        path: the file.
        device: where its tensors are put.

    Raises:
        UsageError: it is no such checkpoint; one line names the file and what is wrong.
    """
    text = f"{path} is not a whole memsuite checkpoint"
    try:
        check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch warns of in a strange file, check_contents names
            checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        check_contents(checkpoint)
    except Wrong as error:
        raise UsageError(f"{text}: {error}") from error
    except pickle.UnpicklingError as error:
        raise UsageError(f"{text}: it holds more than weights and plain values") from error
    except Exception as error:
        raise UsageError(f"{text} ({type(error).__name__})") from error
    return checkpoint
