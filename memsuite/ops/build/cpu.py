"""Builds and loads the compiled ops for the CPU, with the loops of every op once for each instruction set."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Callable
from pathlib import Path

import torch

from memsuite.ops.build import cache
from memsuite.ops.build.cache import Status
from memsuite.ops.build.commands import BuildError

HINT = "the ops run on their PyTorch references, several times slower; `memsuite build` builds them and says why not"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
# No -ffast-math, because not-a-number must survive. The first two flags allow vectors; the third makes every compiler
# contract a product and a sum to one instruction in the same way.
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
# Vectors are passed between inlined functions only, so that it does not matter how a function call would pass them.
FLAGS += ["-Wno-psabi"]
AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
ANNOUNCEMENT = "building the compiled ops (once; about a minute of one core, longer where other work runs)"

STATUS = Status(None, "not asked for yet")


def against_torch() -> list[str]:
    """Return the flags for a file that includes torch's headers."""
    headers = str(Path(torch.__file__).parent / "include")
    return [f"-DTORCH_TARGET_VERSION={cache.STABLE_ABI}", "-isystem", headers]


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def compile_arguments() -> dict[str, list[str]]:
    """Return the arguments that compile each object: the loops for every instruction set, then the bindings.

    The widest instruction set comes first because it takes longest.
    """
    folder = cache.sources()
    common = [*FLAGS, "-I", str(folder)]
    levels = {"v4": AVX512, "v3": AVX2, "base": []} if _is_x86() else {"base": []}
    loops = str(folder / "loops.cpp")
    found = {name: [*common, loops, f"-DMEMSUITE_LEVEL={name}", *flags] for name, flags in levels.items()}
    rest = [*common, *against_torch(), *(["-DMEMSUITE_X86"] if _is_x86() else [])]
    return found | {"bindings": [*rest, str(folder / "bindings.cpp")]}


def library_path() -> Path:
    """Return where the library for this machine is or will be; without a compiler, the one any compiler built."""
    cache.check_platform()
    files = [path for path in cache.sources().rglob("*") if path.suffix in (".h", ".cpp")]
    files = [path for path in files if not path.name.startswith("cuda") and path.parent.name != "bench"]
    key = cache.source_key([platform.machine(), *FLAGS, *AVX512], files)
    try:
        return cache.folder() / f"cpu-{key}-{cache.compiler_key(cache.compiler())}.so"
    except BuildError:
        built = sorted(cache.folder().glob(f"cpu-{key}-*.so"))
        if not built:
            raise
        return built[0]


def build(show: Callable[[str], None] = lambda line: None) -> Path:
    """Build the library, whatever the cache holds, and return its path; :class:`BuildError` says why not."""
    cache.check_platform()
    command, path = cache.compiler(), library_path()
    with cache.making(path) as made:
        jobs = compile_arguments()
        objects = {name: str(made.with_name(f"{name}.o")) for name in jobs}
        show(f"compiling {', '.join(jobs)} with {shlex.join(command)}")
        cache.compile_all([[*command, *job, "-c", "-o", objects[name]] for name, job in jobs.items()], path)
        show("linking")
        cache.run_all([link_command([*objects.values()], made)], path)
        show("loading it in a process of its own")
        cache.try_in_a_process(made, "cpu", path)
    return path


def link_command(objects: list[str], made: Path) -> list[str]:
    """Return the command that links objects to a library that torch can load."""
    libraries = ["-L" + str(Path(torch.__file__).parent / "lib"), "-ltorch_cpu", "-lc10"]
    return [*cache.compiler(), "-shared", *objects, "-o", str(made), *libraries]


def find_or_build() -> Path:
    """Return a library that may be loaded, from the cache if it is there; :class:`BuildError` says why not."""
    return cache.find_or_build(library_path(), build, ANNOUNCEMENT)


def register(library: str) -> None:
    """Load a library, whose ops then take the place of the PyTorch references."""
    torch.ops.load_library(library)  # type: ignore[no-untyped-call]


def load() -> Status:
    """Load the compiled ops as ``MEMSUITE_KERNELS`` says, once per process, and return what became of it."""
    global STATUS
    chosen = cache.mode()
    if STATUS.library is not None:
        return STATUS
    off = Status(None, "MEMSUITE_KERNELS=off")
    STATUS = off if chosen == "off" else cache.load(find_or_build, register, "compiled ops", HINT)
    return STATUS
