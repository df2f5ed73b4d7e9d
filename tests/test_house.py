"""The rules of the layout: imports point down, files stay short, nothing heavy is imported before it is needed."""

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
    "shipped": 1,
    "ops": 1,
    "metrics": 1,
    "laws": 6,
    "storage": 3,
    "trainers": 3,
    "tasks": 3,
    "controllers": 3,
    "rl": 4,
    "trial": 5,
    "module": 6,
    "loading": 7,
    "callbacks": 7,
    "analysis": 5,
    "submissions": 6,
    "suite": 3,
    "launch": 8,
    "bench": 9,
    "cli": 10,
    "__main__": 12,
    "__init__": 11,
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
# Imports that point up, each with its reason.
ALLOWED = {
    ("memsuite.suite.worker", "memsuite.__main__"): "a run of a suite is the command line in another process",
}


def imported(path: Path) -> set[str]:
    """List memsuite's modules that a file imports, at the top or in a function, but not only for type checking."""
    tree = ast.parse(path.read_text())
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    for_types = {id(node) for check in checks for node in ast.walk(check)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "memsuite":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "memsuite"}
    return found


def room_of_module(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    room = room_of_module(name)
    for other in imported(MODULES[name]):
        if room_of_module(other) != room and (name, other) not in ALLOWED:
            assert LEVELS[room_of_module(other)] < LEVELS[room], f"{name} imports {other}"


def test_every_import_that_may_point_up_is_there():
    assert all(other in imported(MODULES[name]) for name, other in ALLOWED)


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions count too."""
    waiting = {name: {one for one in imported(path) if one in MODULES} - {name} for name, path in MODULES.items()}
    waiting = {name: {one for one in others if (name, one) not in ALLOWED} for name, others in waiting.items()}
    while free := {name for name, others in waiting.items() if not others & waiting.keys()}:
        waiting = {name: others for name, others in waiting.items() if name not in free}
    assert not waiting


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    assert ast.get_docstring(ast.parse(text))


def parameters(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    """List the parameters of a function or of a class's constructor; a dataclass has its fields."""
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
    """Published code uses ``done`` with two opposite meanings, so it is not a name here."""
    for path in FILES:
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not names & {"done", "dones"}, path


def test_no_room_outgrows_a_reader():
    """A room is a folder, without those within it. The command line has only its verbs."""
    sizes: dict[str, int] = {}
    for path in FILES:
        room = str(path.parent.relative_to(PACKAGE))
        sizes[room] = sizes.get(room, 0) + path.read_text().count("\n")
    assert {room: size for room, size in sizes.items() if size > 2500} == {}
    assert sizes["cli"] < 1500
