"""Builds the compiled ops on first use, keeps them in a cache, and loads them.

The sources are in ``csrc`` (in an installed package, ``memsuite/_csrc``). They use LibTorch's stable ABI and no build
system: a C++ compiler and the headers that come with torch are enough. ``MEMSUITE_KERNELS`` is ``auto`` (build, or
fall back to the PyTorch references with one hint), ``require`` (an error in place of falling back) or ``off``.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from memsuite.errors import UsageError

MODES = ("auto", "require", "off")
HINT = "the ops run on their PyTorch references, several times slower; `memsuite build` builds them and says why not"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-w"]
# No -ffast-math: not-a-number must survive. These two allow vectors; the contraction is the same in every compiler.
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
BINDINGS = ("binding", "binding_heads", "binding_matrix", "binding_conv", "binding_rows", "handover")
STABLE_ABI = "0x020a000000000000"  # torch 2.10: what is built runs with this version and every later one
DIGEST = 32  # bytes of SHA-256 at the end of a cached library, which the loader of libraries does not look at
logger = logging.getLogger("memsuite")


class BuildError(RuntimeError):
    """Why there is no compiled library, in one line; the details, if any, are in the log it names."""


@dataclass(frozen=True)
class Status:
    """What became of the compiled ops in this process: the library, or the reason why there is none."""

    library: Path | None
    reason: str


STATUS = Status(None, "not asked for yet")


def mode() -> str:
    """Return ``MEMSUITE_KERNELS``; :class:`UsageError` if it is none of :data:`MODES`."""
    chosen = os.environ.get("MEMSUITE_KERNELS", "auto") or "auto"
    if chosen not in MODES:
        raise UsageError(f"MEMSUITE_KERNELS is {chosen!r}; valid values: {', '.join(MODES)}")
    return chosen


def sources() -> Path:
    """Return the folder of the C++ sources: in the package if it was installed, else beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_csrc", package.parent / "csrc"):
        if (folder / "binding.cpp").is_file():
            return folder
    raise BuildError("the C++ sources did not come with this installation")


def cache() -> Path:
    """Return the folder of built libraries."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "memsuite"


def compiler() -> list[str]:
    """Return the C++ compiler as the start of a command: ``$CXX``, or the first of the usual names on the PATH."""
    for command in ([*shlex.split(os.environ.get("CXX", ""))], ["g++"], ["c++"]):
        if command and shutil.which(command[0]):
            return command
    raise BuildError("no C++ compiler (g++) on the PATH")


def _check_platform() -> None:
    if sys.platform != "linux":
        raise BuildError(f"the compiled ops are for Linux, not {sys.platform}")
    if _torch_version() < (2, 10):
        raise BuildError(f"the compiled ops need torch 2.10 or newer, not {torch.__version__}")


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _objects(folder: Path) -> dict[str, list[str]]:
    """Return the arguments that compile each object: the loops once for every instruction set, then the binding."""
    loops = str(folder / "cpu" / "kernels.cpp")
    levels = {"base": [], "v3": AVX2, "v4": AVX512} if _is_x86() else {"base": []}
    found = {name: [loops, f"-DMEMSUITE_LEVEL={name}", *flags] for name, flags in levels.items()}
    headers = str(Path(torch.__file__).parent / "include")
    against_torch = [f"-DTORCH_TARGET_VERSION={STABLE_ABI}", "-isystem", headers]
    against_torch += ["-DMEMSUITE_X86"] if _is_x86() else []
    return found | {name: [str(folder / f"{name}.cpp"), *against_torch] for name in BINDINGS}


def source_key() -> str:
    """Return a hash of all that decides what is built, but for the compiler."""
    folder = sources()
    told = [platform.machine(), *FLAGS, *AVX512, STABLE_ABI, ".".join(map(str, _torch_version()))]
    digest = hashlib.sha256("\0".join(told).encode())
    for path in sorted([*folder.glob("*.cpp"), *folder.glob("*.h"), *folder.glob("cpu/*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _compiler_key(command: list[str]) -> str:
    """Tell compilers apart without starting them: this runs at every import."""
    path = Path(shutil.which(command[0]) or command[0]).resolve()
    stat = path.stat()
    told = [str(path), *command[1:], str(stat.st_size), str(stat.st_mtime_ns)]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:8]


def library_path() -> Path:
    """Return where the library for this machine is or will be; without a compiler, the one any compiler built."""
    _check_platform()
    key = source_key()
    try:
        return cache() / f"cpu-{key}-{_compiler_key(compiler())}.so"
    except BuildError:
        built = sorted(cache().glob(f"cpu-{key}-*.so"))
        if not built:
            raise
        return built[0]


def intact(path: Path) -> bool:
    """Tell whether a cached library is there and whole: loading half a file may end the process."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return len(content) > DIGEST and hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def build(show: Callable[[str], None] = lambda line: None) -> Path:
    """Build the library, whatever the cache holds, and return its path; :class:`BuildError` says why not."""
    _check_platform()
    command, path = compiler(), library_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
        made = Path(folder) / "library.so"
        jobs = {name: [*FLAGS, "-c", *rest, "-o", f"{folder}/{name}.o"] for name, rest in _objects(sources()).items()}
        show(f"compiling {', '.join(jobs)} with {shlex.join(command)}")
        _run_all([[*command, *job] for job in jobs.values()], path)
        show("linking")
        libraries = Path(torch.__file__).parent / "lib"
        link = ["-shared", *(f"{folder}/{name}.o" for name in jobs), "-o", str(made)]
        _run_all([[*command, *link, f"-L{libraries}", "-ltorch_cpu", "-lc10"]], path)
        show("loading it in a process of its own")
        _run_all([[sys.executable, "-c", _TRIAL, str(made)]], path)
        made.write_bytes(made.read_bytes() + hashlib.sha256(made.read_bytes()).digest())
        made.replace(path)
    _log_of(path).unlink(missing_ok=True)
    return path


# Every op is called once, so that what cannot run here never enters the cache.
_TRIAL = """
import os, sys
os.environ["MEMSUITE_KERNELS"] = "off"
import torch
from memsuite.ops import diagonal_scan, gru_scan, log_prob, lstm_scan, matrix_scan, narrow_linear, normed_linear
from memsuite.ops import gated_mlp, gated_out, pscan, rms_norm, short_conv, surrogate
torch.ops.load_library(sys.argv[1])
x, reset, h = torch.ones(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool), torch.zeros(3, 4, requires_grad=True)
gru = gru_scan(torch.ones(2, 3, 12), reset, h, torch.ones(12, 4), torch.ones(12))
lstm = lstm_scan(torch.ones(2, 3, 16), reset, h, h, torch.ones(16, 4), torch.ones(16))[0]
(gru + lstm + pscan(x, reset, h) + diagonal_scan(torch.ones(4), x, reset, h)).sum().backward()
q, ones, s = torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1), torch.ones(3, 1, 4, 4, requires_grad=True)
sum(matrix_scan(q, q, q, -ones, reset, s, beta)[0].sum() for beta in (None, ones)).backward()
short_conv(x, s[0, 0], None, torch.zeros(3, 3, 4), reset).sum().backward()
w = torch.ones(4, 4, requires_grad=True)
x = gated_out(q.expand(2, 3, 1, 4).contiguous(), x, w, 1e-8, 1) + rms_norm(x, w[0], 1e-8)
x = gated_mlp(x, torch.ones(12, 4), torch.ones(4, 6), 1e-8)
out = normed_linear(narrow_linear(x, torch.ones(8, 4)), torch.ones(5, 8, requires_grad=True), 1e-8)
actions, v = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3)
log_p = log_prob(out, actions)
surrogate(out, v, actions, log_p, v, log_p, v, 0.2, 0.2, 0.5, 0.1, True)[0].backward()
assert h.grad.isfinite().all()
"""


def _log_of(path: Path) -> Path:
    return path.with_suffix(".log")


def _run_all(commands: list[list[str]], path: Path) -> None:
    """Run commands side by side; if one fails, keep what it said and raise."""
    package = str(Path(__file__).resolve().parents[2])
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([package, *inherited])}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": env}
    running = [subprocess.Popen(command, **streams) for command in commands]  # type: ignore[call-overload]
    said = [process.communicate()[0] for process in running]
    for process, command, output in zip(running, commands, said, strict=True):
        if process.returncode:
            _log_of(path).write_text(f"{shlex.join(command)}\n{output}")
            raise BuildError(f"{Path(command[0]).name} failed with status {process.returncode}; see {_log_of(path)}")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process build and the others wait for it; where files cannot be locked, all build, which is safe too."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_or_build() -> Path:
    """Return a library that may be loaded, from the cache if it is there; :class:`BuildError` says why not."""
    path = library_path()
    if intact(path):
        return path
    compiler()
    with _alone(path.parent):
        if intact(path):
            return path
        if _log_of(path).exists():
            raise BuildError(f"an earlier build failed; see {_log_of(path)}")
        logger.warning("memsuite: building the compiled ops (once, less than a minute)")
        return build()


def load() -> Status:
    """Load the compiled ops as ``MEMSUITE_KERNELS`` says, once per process, and return what became of it."""
    global STATUS
    chosen = mode()
    if STATUS.library is not None:
        return STATUS
    if chosen == "off":
        STATUS = Status(None, "MEMSUITE_KERNELS=off")
        return STATUS
    try:
        path = find_or_build()
        torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
        STATUS = Status(path, "loaded")
    except (BuildError, OSError) as error:
        reason = str(error).splitlines()[0]
        if chosen == "require":
            raise UsageError(f"MEMSUITE_KERNELS=require, but {reason}") from error
        logger.warning("memsuite: no compiled ops (%s): %s", reason, HINT)
        STATUS = Status(None, reason)
    return STATUS
