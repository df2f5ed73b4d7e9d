"""The guide's example of a user's own controller, run as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NO_HINT = os.environ | {"MEMSUITE_KERNELS": "off"}  # without a compiler, a hint on how to build would add a line
GUIDE = (Path(__file__).parents[2] / "docs" / "controllers.md").read_text()


def example(language: str, containing: str) -> str:
    """Return the guide's code block of a language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mean_memory.py").write_text(example("python", "class MeanMemory"))
    (tmp_path / "mine.yaml").write_text(example("yaml", "MeanMemory"))
    (tmp_path / "law.py").write_text(example("python", "model = MeanMemory"))
    return tmp_path


def test_the_example_trains_from_yaml_and_is_loaded_again(folder):
    command = example("bash", "mine.yaml").split()
    assert command[0] == "memsuite"
    fit = [sys.executable, "-m", "memsuite", *command[1:], "--device", "cpu", "--steps", "1600"]
    out = subprocess.run(fit, cwd=folder, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    code = "import memsuite; print(type(memsuite.load('runs/mine').model.controller).__name__)"
    out = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert out.stdout.strip() == "MeanMemory", out.stderr


def test_the_example_trains_as_a_stack_and_is_loaded_again(folder):
    line = "--config mine.yaml --controller_args.depth 2 --out runs/two --device cpu --steps 1600"
    out = subprocess.run(
        [sys.executable, "-m", "memsuite", "fit", *line.split()], cwd=folder, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    code = "import memsuite; print(*map(type, memsuite.load('runs/two').model.controller.layers))"
    out = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert out.stdout.count("mean_memory.MeanMemory") == 2, out.stderr


def test_the_example_keeps_the_law_it_shows(folder):
    subprocess.run([sys.executable, "law.py"], cwd=folder, check=True)


def test_a_mistake_in_its_file_is_one_line(folder):
    (folder / "mean_memory.py").write_text("import nothing_of_this_name\n")
    fit = [sys.executable, "-m", "memsuite", "fit", "--config", "mine.yaml", "--out", "x"]
    out = subprocess.run(fit, cwd=folder, capture_output=True, text=True, env=NO_HINT)
    assert out.returncode == 2
    assert out.stderr.strip().count("\n") == 0
    assert "nothing_of_this_name" in out.stderr
    assert not (folder / "x").exists()
