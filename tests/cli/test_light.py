"""The command's imports: what they leave out, and that nothing else is different afterwards."""

import gc
import subprocess
import sys

import pytest

from memsuite.launch.light import SIGNALS, light_import

AFTERWARDS = """
import gc, sys
from memsuite.launch.light import light_import
module = light_import("memsuite.cli.fit")
assert module is sys.modules["memsuite.cli.fit"] and callable(module.main)
assert "torchmetrics" in sys.modules and "scipy.signal" not in sys.modules
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import scipy, scipy.signal
assert scipy.signal.lfilter([1.0], [1.0], [2.0]) == 2.0
assert light_import("scipy.signal") is scipy.signal
"""


def test_scipy_is_left_out_and_there_when_asked_for():
    pytest.importorskip("scipy")
    ended = subprocess.run([sys.executable, "-c", AFTERWARDS], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_module_that_is_there_is_returned_as_it_is():
    before = gc.get_freeze_count()
    assert light_import("json") is sys.modules["json"]
    assert gc.get_freeze_count() == before


def test_an_import_that_fails_leaves_nothing_behind():
    real = pytest.importorskip(SIGNALS)
    try:
        with pytest.raises(ModuleNotFoundError):
            light_import("memsuite.cli.no_such_verb")
        assert gc.isenabled()
        assert sys.modules[SIGNALS] is real
    finally:
        gc.unfreeze()
