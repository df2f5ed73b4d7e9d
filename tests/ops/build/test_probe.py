"""The probe of the machine: built when it is asked for, and no part of the library of the ops."""

import shutil
import subprocess
import sys

import pytest

from memsuite.ops.build import cache, probe

COMPILER = shutil.which("g++") or shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="no C++ compiler")


@needs_compiler
def test_it_is_built_on_its_first_use_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MEMSUITE_KERNELS", "off")
    code = """
import torch
from memsuite.ops.build import probe
assert not hasattr(torch.ops.memsuite, "handover")
print([1e-9 < probe.handover(100) < 0.1 for _ in range(2)])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[True, True]"
    assert [path.name.split("-")[0] for path in (tmp_path / "memsuite").glob("*.so")] == ["probe"]
    assert not list((tmp_path / "memsuite").glob("*.warnings"))


def test_without_a_compiler_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    probe._load.cache_clear()
    with pytest.raises(cache.BuildError, match="no C\\+\\+ compiler"):
        probe.handover(1)
