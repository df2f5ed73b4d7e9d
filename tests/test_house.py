"""The laws of the layout: imports point down, files stay short, nothing heavy is imported before it is asked for."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "memsuite"
FILES = sorted(PACKAGE.rglob("*.py"))
MAKERS = ("__init__", "__new__")
# A room may import from rooms with a smaller number, and from itself.
LEVELS = {
    "errors": 0,
    "distributed": 1,
    "files": 0,
    "reading": 1,
    "system": 0,
    "imports": 2,
    "blame": 1,
    "types": 0,
    "runs": 2,
    "ops": 1,
    "metrics": 1,
    "storage": 3,
    "trainers": 3,
    "tasks": 3,
    "controllers": 3,
    "rl": 4,
    "module": 5,
    "loading": 6,
    "callbacks": 6,
    "analysis": 5,
    "suite": 3,
    "cli": 7,
    "bench": 8,
    "__main__": 9,
    "__init__": 9,
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports_at_top(path: Path) -> set[str]:
    """List the rooms a file imports when it is itself imported."""
    rooms = set()
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module == "memsuite"
            names = [f"{node.module}.{alias.name}" if inside else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("memsuite.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path)
    for other in imports_at_top(path) - {room}:
        assert LEVELS[other] < LEVELS[room], f"{room} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    assert ast.get_docstring(ast.parse(text))


def parameters(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    """List the parameters of a function or of what makes a class; a dataclass has its fields."""
    if isinstance(node, ast.ClassDef):
        makers = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name in MAKERS]
        if not makers:
            return [item.target.id for item in node.body if isinstance(item, ast.AnnAssign)]
        node = makers[0]
    given = node.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [one.arg for one in found if one is not None and one.arg not in ("self", "cls")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_where_arguments_are_described_all_are_each_on_its_line(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        _, described, after = (ast.get_docstring(node) or "").partition("\nArgs:\n")
        if described:
            section = re.split(r"\n(?=\w)", after)[0]
            named = re.findall(r"^    \*{0,2}(\w+):", section, re.MULTILINE)
            assert sorted(named) == sorted(parameters(node)), f"{path}:{node.lineno} {node.name}"


@pytest.mark.parametrize("module", ["memsuite", "memsuite.__main__", "memsuite.cli", "memsuite.cli.suite"])
def test_nothing_heavy_is_imported_unasked(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'lightning', 'numpy', 'jsonargparse'}} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_analysis_does_not_import_what_trains():
    code = "import sys, memsuite.analysis; print('memsuite.module' in sys.modules, 'lightning' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_no_deadline_word():
    """``done`` is used with two opposite meanings in published code, so here it is not a name."""
    for path in FILES:
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not names & {"done", "dones"}, path
