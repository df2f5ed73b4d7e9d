"""The cache of built libraries: where they lie, how one is made, checked and loaded.

The sources are in ``csrc`` (in an installed package, ``memsuite/_csrc``). They use LibTorch's stable ABI and no build
system: a C++ compiler and the headers that come with torch are enough. ``MEMSUITE_KERNELS`` is ``auto`` (build, or
fall back to the PyTorch references with one hint), ``require`` (an error in place of falling back) or ``off``.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from memsuite.errors import UsageError
from memsuite.ops.build import commands as commands_of
from memsuite.ops.build.commands import BuildError, cleared_up_at_sigterm

MODES = ("auto", "require", "off")
STABLE_ABI = "0x020a000000000000"  # torch 2.10: what is built runs with this version and every later one
DIGEST = 32  # bytes of SHA-256 at the end of a cached library, which the loader of libraries does not look at
ELSEWHERE = "set XDG_CACHE_HOME to a folder that can be written"
logger = logging.getLogger("memsuite")


@dataclass(frozen=True)
class Status:
    """What became of a compiled library in this process: its path, or None and the reason why there is none."""

    library: Path | None
    reason: str


def mode() -> str:
    """Return ``MEMSUITE_KERNELS``; :class:`UsageError` if it is none of :data:`MODES`."""
    chosen = os.environ.get("MEMSUITE_KERNELS", "auto") or "auto"
    if chosen not in MODES:
        raise UsageError(f"MEMSUITE_KERNELS is {chosen!r}; valid values: {', '.join(MODES)}")
    return chosen


def sources() -> Path:
    """Return the folder of the C++ sources: inside the package if it was installed, else beside it."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "_csrc", package.parent / "csrc"):
        if (folder / "common" / "tensors.h").is_file():
            return folder
    raise BuildError("the C++ sources did not come with this installation")


def folder() -> Path:
    """Return the folder of built libraries.

    Raises:
        BuildError: this user has no home. A folder among the temporary files would be one that others can fill first.
    """
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / "memsuite"
    try:
        return Path.home() / ".cache" / "memsuite"
    except RuntimeError as error:  # no HOME, and no entry for this user
        raise BuildError("this user has no home to keep them in; set XDG_CACHE_HOME to a folder") from error


def compiler() -> list[str]:
    """Return the C++ compiler as the start of a command: ``$CXX``, or the first of the usual names on the PATH."""
    try:
        given = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise BuildError(f"CXX is no command: {str(error).lower()}") from error
    for command in (given, ["g++"], ["c++"]):
        if command and shutil.which(command[0]):
            return command
    raise BuildError("no C++ compiler (g++) on the PATH")


def compiler_key(command: list[str]) -> str:
    """Return a hash that tells compilers apart without starting them, because this runs at every import."""
    path = Path(shutil.which(command[0]) or command[0]).resolve()
    stat = path.stat()
    told = [str(path), *command[1:], str(stat.st_size), str(stat.st_mtime_ns)]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:8]


def source_key(told: Iterable[str], files: Iterable[Path]) -> str:
    """Return a hash of the flags that are told, of the versions that matter, and of the names and contents of files."""
    version = ".".join(map(str, _torch_version()))
    digest = hashlib.sha256("\0".join([*told, STABLE_ABI, version]).encode())
    for path in sorted(files):
        digest.update(str(path.relative_to(sources())).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def check_platform() -> None:
    """Raise :class:`BuildError` where the compiled ops cannot be built at all."""
    if sys.platform != "linux":
        raise BuildError(f"the compiled ops are for Linux, not {sys.platform}")
    if _torch_version() < (2, 10):
        raise BuildError(f"the compiled ops need torch 2.10 or newer, not {torch.__version__}")


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def log_of(path: Path) -> Path:
    """Return where the output of a failed build of this library is kept."""
    return path.with_suffix(".log")


def warnings_of(path: Path) -> Path:
    """Return where the warnings of this library's compilers are kept; there is no such file if there were none."""
    return path.with_suffix(".warnings")


def intact(path: Path) -> bool:
    """Tell whether a cached library is there, nobody else's and whole: loading half a file may end the process."""
    try:
        if not (is_ours(path) and is_ours(path.parent)):
            return False
        content = path.read_bytes()
    except OSError:
        return False
    return len(content) > DIGEST and hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def is_ours(path: Path) -> bool:
    """Tell whether a file or a folder belongs to this user or to root, and nobody else can write it."""
    found = path.stat()
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def make_own(place: Path) -> None:
    """Make a folder that only this user can enter; close one that others can write.

    What was in a folder that others could write is not loaded any more: it may be theirs.

    Raises:
        BuildError: it cannot be made or written, or it belongs to somebody else.
    """
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{place} cannot be made ({error.strerror}); {ELSEWHERE}") from error
    if not os.access(place, os.W_OK):
        raise BuildError(f"{place} cannot be written; {ELSEWHERE}")
    if place.stat().st_uid != os.geteuid():
        raise BuildError(f"{place} belongs to another user; set XDG_CACHE_HOME to a folder of your own")
    if not is_ours(place):
        for library in place.glob("*.so"):
            library.unlink()
        place.chmod(0o700)


@contextlib.contextmanager
def making(path: Path) -> Iterator[Path]:
    """Give the path at which to make a library; if that raises nothing, move it to ``path`` with its digest."""
    make_own(path.parent)
    temporary = tempfile.TemporaryDirectory(dir=path.parent, prefix="build-", ignore_cleanup_errors=True)
    with cleared_up_at_sigterm(), temporary as name:
        made = Path(name) / "library.so"
        yield made
        made.write_bytes(made.read_bytes() + hashlib.sha256(made.read_bytes()).digest())
        made.chmod(0o755)
        made.replace(path)
    log_of(path).unlink(missing_ok=True)


def run_all(commands: list[list[str]], path: Path) -> str:
    """Run the commands that make a library and return what they say; that of one that fails is in the library's log."""
    return commands_of.run_all(commands, log_of(path))


def compile_all(commands: list[list[str]], path: Path) -> None:
    """Run the compilers; their warnings are kept beside the library and are no errors.

    A new compiler finds new things to warn of, and that must not make a user's build fail. The tests read the file.
    """
    said, kept = run_all(commands, path), warnings_of(path)
    if said:
        kept.write_text(said)
    else:
        kept.unlink(missing_ok=True)


def try_in_a_process(library: Path, device: str, path: Path) -> None:
    """Call every op of a new library in a process of its own, so that what cannot run here never enters the cache."""
    run_all([[sys.executable, "-m", "memsuite.ops.build.trial", device, str(library)]], path)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one process build and the others wait for it; where files cannot be locked, all build, which is safe too."""
    import fcntl

    make_own(folder())
    with (folder() / "lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_or_build(path: Path, build: Callable[[], Path], announcement: str) -> Path:
    """Return the library at ``path``, which ``build`` makes if it is missing; :class:`BuildError` says why not."""
    if intact(path):
        return path
    compiler()
    with _alone():
        if intact(path):
            return path
        if log_of(path).exists():
            raise BuildError(f"an earlier build failed; see {log_of(path)}")
        logger.warning("memsuite: %s", announcement)
        return build()


def load(find: Callable[[], Path], register: Callable[[str], None], missing: str, hint: str) -> Status:
    """Find or build a library and register what is in it; return what became of it.

    Args:
        find: returns the path of a library that may be loaded, or raises :class:`BuildError`.
        register: loads the library at a path.
        missing: what there is none of if that fails, for the warning.
        hint: what to do about it, for the warning.

    Raises:
        UsageError: ``MEMSUITE_KERNELS`` is ``require``, and there is no library.
    """
    try:
        path = find()
        register(str(path))
    except (BuildError, OSError) as error:
        reason = str(error).splitlines()[0]
        if mode() == "require":
            raise UsageError(f"MEMSUITE_KERNELS=require, but {reason}") from error
        logger.warning("memsuite: no %s (%s): %s", missing, reason, hint)
        return Status(None, reason)
    return Status(path, "loaded")
