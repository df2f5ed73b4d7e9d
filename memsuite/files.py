"""How files get on disk: whole or not at all.

A file appears under its name only when it is complete (temporary file beside it, fsync, rename), so a run that is
killed at any moment leaves the previous version or the next one, never half of one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # what a disk says that takes no more
WATCHED: dict[Path, tuple[int, int]] = {}  # run folders of this process, and the numbers by which the system knows them


class FolderGone(OSError):
    """A run folder is not the one any more that the run has begun in."""


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Let nothing be written below a folder's name, in the block, once another folder stands there or none."""
    place = Path(os.path.abspath(folder))
    before = dict(WATCHED)
    WATCHED[place] = _identity(place) or (0, 0)
    try:
        yield
    finally:
        WATCHED.clear()
        WATCHED.update(before)


def check_there(path: Path) -> None:
    """Raise :class:`FolderGone` if the run folder that a file belongs to was moved, deleted or replaced."""
    if WATCHED and (folder := _gone(Path(os.path.abspath(path)))):
        raise FolderGone(
            f"the run folder {folder} was moved, deleted or replaced while the run went on; nothing was written into "
            "what stands there now"
        )


def _gone(path: Path) -> Path | None:
    """Return the run folder above a path that is not the one any more that it was."""
    for folder, known in WATCHED.items():
        if (folder == path or folder in path.parents) and _identity(folder) != known:
            return folder
    return None


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], keep: Path | None = None) -> None:
    """Let ``write`` fill a temporary file in the same folder, then put it in the place of ``path``.

    With ``keep``, what ``path`` held before lives on under that name.
    """
    check_there(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        check_there(path)  # again, as writing may have taken a while
        if keep is not None and path.exists():
            link(path, keep)
        os.replace(name, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def link(path: Path, name: Path) -> None:
    """Let ``name`` mean the file ``path`` means now; at no moment is there neither."""
    beside = name.with_name(f".{name.name}.link")
    beside.unlink(missing_ok=True)
    try:
        os.link(path, beside)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, beside)
    os.replace(beside, name)
    beside.unlink(missing_ok=True)  # renaming one name of a file to another name of it does nothing


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure, where the file system lets a folder be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writes that were killed."""
    for part in (folder, folder / "checkpoints"):
        for pattern in (".*.ckpt.*", ".*.csv.*", ".*.json.*", ".*.yaml.*", ".*writable*"):
            for path in part.glob(pattern):
                path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as indented JSON, atomically; a number that JSON lacks is a ValueError."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def spelt(content: Any) -> Any:
    """Return settings with numbers that JSON lacks as the texts that YAML has for them, such as ``-.inf``."""
    if isinstance(content, float) and not math.isfinite(content):
        return ".nan" if math.isnan(content) else ".inf" if content > 0 else "-.inf"
    if isinstance(content, dict):
        return {name: spelt(value) for name, value in content.items()}
    return [spelt(value) for value in content] if isinstance(content, list | tuple) else content
