"""The CUDA kernels' arithmetic, indices and barriers, without a GPU: built for the host against an emulation.

Only a GPU shows speed, its limits and its memory order. The ``gpu`` tests, which are the same tests, cover these.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memsuite.ops.build import cache, cpu, cuda

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") or shutil.which("c++")
pytestmark = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="no C++ compiler")


@pytest.mark.timeout(1200)  # half a minute, but not on a machine that is busy with other things
def test_the_kernels_emulated_on_the_host(tmp_path):
    commands = cuda.compile_commands(str(tmp_path), [], compilers=("nvcc", [COMPILER]))
    host = [COMPILER, "-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-x", "c++"]
    host += ["-I", str(cache.sources()), "-I", str(HERE / "emulated")]
    made = [
        [*command, "-O1", "-DMEMSUITE_EMULATED"] if name.endswith("_binding") else [*host, *command[-4:]]
        for name, command in commands.items()
    ]
    running = [subprocess.Popen(command) for command in made]
    assert [process.wait() for process in running] == [0] * len(running)
    library = tmp_path / "emulated.so"
    subprocess.run(cpu.link_command([command[-1] for command in commands.values()], library), check=True)
    env = os.environ | {"MEMSUITE_KERNELS": "off", "MEMSUITE_EMULATED": str(library), "OMP_NUM_THREADS": "1"}
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--timeout",
        "900",
    ]
    tests.append(str(HERE.parent / "scans" / "test_cuda_kernels.py"))
    done = subprocess.run(tests, env=env, capture_output=True, text=True, cwd=HERE.parents[2])
    assert done.returncode == 0, f"{shlex.join(tests)}\n{done.stdout}\n{done.stderr}"
    assert " passed" in done.stdout
