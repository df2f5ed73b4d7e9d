"""Controllers and training on a pretended accelerator (tests/pretended), in a process that is left afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

FOLDER = Path(__file__).parent / "pretended"
CAN = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


@pytest.mark.skipif(not CAN, reason="this torch cannot pretend a device; 2.13 can")
@pytest.mark.parametrize("name", ["controllers", "training"])
def test_on_a_pretended_accelerator(name):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--tb=short", str(FOLDER / f"{name}.py")]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout[-5000:] + child.stderr[-2000:]
    assert " passed" in child.stdout
    assert "skipped" not in child.stdout
