"""The notebooks: short, without outputs in git, and they run top to bottom."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]


def code_of(path: Path) -> list[str]:
    """Return the code cells as Python: IPython's own lines become ``pass``."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    texts = ["".join(cell["source"]) for cell in cells]
    return [re.sub(r"^(\s*)[%!].*$", r"\1pass", text, flags=re.M) for text in texts if not text.startswith("%%")]


def test_all_four_are_there():
    assert [name[:2] for name in IDS] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_outputs_are_stripped(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_they_define_nothing_and_what_they_import_is_there(path):
    for cell in code_of(path):
        tree = ast.parse(cell)
        assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda))]
        imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        ours = [node for node in imports if "leaky" not in ast.unparse(node)]
        exec(compile(ast.Module(ours, []), path.name, "exec"), {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_prose_says_what_is_seen(path):
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert sum(cell["cell_type"] == "markdown" for cell in cells) >= 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_it_runs_top_to_bottom_and_draws(path, tmp_path):
    """From a fresh copy, as ``make notebooks`` runs it: about half a minute of CPU each."""
    copy = tmp_path / "notebooks" / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    os.symlink(FOLDER.parent / "results", tmp_path / "results")
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--timeout", "600", str(copy)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    outputs = [out for cell in json.loads(copy.read_text())["cells"] for out in cell.get("outputs", [])]
    figures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert figures
    assert all(len(out["data"]["image/png"]) > 5_000 for out in figures)
