"""``memsuite build``: compiles the ops ahead of their first use, and says what was built or why not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from memsuite.launch.plain import PlainParser


def main(verb: str, arguments: list[str]) -> int:
    """Build the libraries, that for CUDA where a GPU is, unless they are there; return 0 if all is there in the end."""
    parser = PlainParser(prog=f"memsuite {verb}", description=__doc__.partition(": ")[2])
    parser.add_argument("--force", action="store_true", help="build even if the cache has it")
    force = parser.parse_args(arguments).force
    os.environ["MEMSUITE_KERNELS"] = "off"  # importing the ops would build them first, in silence
    from memsuite.ops.build import cpu, cuda

    found = _built(cpu.library_path, cpu.build, force)
    if cuda.wanted():
        found &= _built(lambda: cuda.library_path(cuda.architectures()), cuda.build, force)
    return 0 if found else 1


def _built(where: Callable[[], Path], build: Callable[[Callable[[str], None]], Path], force: bool) -> bool:
    """Build one library unless it is there, and tell whether there is one in the end."""
    from memsuite.ops.build import cache
    from memsuite.ops.build.commands import BuildError

    begin = time.perf_counter()
    try:
        path = where()
        if cache.intact(path) and not force:
            print(f"memsuite build: already built: {path}")
            return True
        path = build(lambda line: print(f"memsuite build: {line}", flush=True))
    except (BuildError, OSError) as error:
        print(f"memsuite build: not built: {error}")
        print("memsuite build: the ops run on their PyTorch references, which give the same results more slowly")
        return False
    print(f"memsuite build: built {path} in {time.perf_counter() - begin:.0f} s")
    return True
