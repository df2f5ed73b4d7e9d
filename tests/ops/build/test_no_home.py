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
