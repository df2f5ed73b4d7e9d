"""A user without a home: the ops run on their references, and one line says what to set."""

import os
import subprocess
import sys

CODE = """
import pathlib
def homeless():
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = homeless
from memsuite.ops.build import cpu
print(cpu.STATUS.library, cpu.STATUS.reason)
"""


def test_without_a_home_nothing_is_built_and_the_fix_is_named():
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    environment["MEMSUITE_KERNELS"] = "auto"
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("None")
    assert "set XDG_CACHE_HOME" in run.stdout
    assert "Traceback" not in run.stderr


def test_a_cache_that_cannot_be_made_or_written_is_named_with_the_fix(tmp_path):
    (tmp_path / "file").touch()
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    environment |= {"MEMSUITE_KERNELS": "auto", "HOME": str(tmp_path / "file" / "home")}
    code = "from memsuite.ops.build import cpu"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert "cannot be made (Not a directory); set XDG_CACHE_HOME to a folder that can be written" in run.stderr
