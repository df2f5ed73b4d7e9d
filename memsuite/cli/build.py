"""``memsuite build``: compiles the ops ahead of their first use, and says what was built or why not."""

from __future__ import annotations

import os
import time

from memsuite.cli.plain import PlainParser


def main(verb: str, arguments: list[str]) -> int:
    """Build the library unless it is there; return 0 if there is one in the end, else 1."""
    parser = PlainParser(prog=f"memsuite {verb}", description=__doc__.partition(": ")[2])
    parser.add_argument("--force", action="store_true", help="build even if the cache has it")
    force = parser.parse_args(arguments).force
    os.environ["MEMSUITE_KERNELS"] = "off"  # importing the ops would build them first, in silence
    from memsuite.ops import _build

    begin = time.perf_counter()
    try:
        path = _build.library_path()
        if _build.intact(path) and not force:
            print(f"memsuite build: already built: {path}")
            return 0
        path = _build.build(lambda line: print(f"memsuite build: {line}", flush=True))
    except (_build.BuildError, OSError) as error:
        print(f"memsuite build: not built: {error}")
        print("memsuite build: the ops run on their PyTorch references, which give the same results more slowly")
        return 1
    print(f"memsuite build: built {path} in {time.perf_counter() - begin:.0f} s")
    return 0
