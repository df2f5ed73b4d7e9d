"""What comes with memsuite is found by name from anywhere, a path wins, and the distribution has one name."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from one_line import answer_in

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.runs.collection import find_runs
from memsuite.shipped import DISTRIBUTION, KINDS, extra, find, folder, names
from memsuite.suite.grid import read_suite

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text()
TEXTS = (".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cff", ".ipynb", ".jinja", ".json", ".h", ".cpp", ".cu", "")
PARTS = [".github", "configs", "csrc", "docs", "memsuite", "notebooks", "tests"]
# The name on the index belongs to somebody else's package: with extras, or as what pip is to install.
OLD = re.compile(r"\bmemsuite" + r"\[[a-z{]|pip install (?:\S+ )*'?memsuite(?![\w-])")


def texts():
    files = [path for part in PARTS for path in sorted((ROOT / part).rglob("*"))]
    files += sorted(ROOT.glob("*"))
    return [path for path in files if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts]


def test_the_old_name_of_the_distribution_is_nowhere():
    assert len(texts()) > 300
    found = [f"{path}: {text}" for path in texts() for text in OLD.findall(path.read_text(errors="replace"))]
    assert found == []


@pytest.mark.parametrize("text", ["pip install '@[report]'", "pip install @", "pip install -e @ x", "@[plot]"])
def test_the_old_name_would_be_found(text):
    assert OLD.search(text.replace("@", "memsuite"))
    assert not OLD.search(text.replace("@", DISTRIBUTION))


def test_there_is_one_version():
    (version,) = re.findall(r'^version = "(.+)"', PROJECT, re.MULTILINE)
    assert re.search(r'^name = "(.+)"', PROJECT, re.MULTILINE)[1] == DISTRIBUTION
    assert re.search(r"^version: (.+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == version
    assert memsuite.__version__ == version


def test_every_extra_that_is_named_is_there():
    offered = set(re.findall(r"^(\w+) = \[", PROJECT.partition("optional-dependencies]")[2], re.MULTILINE))
    named = {
        name for path in texts() for name in re.findall(r"extra\([\"'](\w+)[\"']\)", path.read_text(errors="ignore"))
    }
    assert {"report", "ray", "slurm", "gym"} <= named <= offered
    assert extra("report") == "pip install 'memsuite-rl[report]'"


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_found_by_its_name_and_by_its_path(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(names(kind)) > 3
    for name, path in names(kind).items():
        assert find(kind, name) == path
        assert find(kind, path.relative_to(folder("configs").parent)) == path
    names.cache_clear()


def test_names_are_not_ambiguous():
    for kind in KINDS:
        top, part, pattern = KINDS[kind]
        files = list((folder(top) / part).glob(pattern))
        files = [path for path in files if kind != "configuration" or path.parent.name != "suites"]
        assert len(files) == len(names(kind))


def test_a_path_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "golden").write_text("task: copy_memory")
    assert find("configuration", "golden") == Path("golden")
    (tmp_path / "reference").mkdir()
    with pytest.raises(UsageError, match=r"no finished run \(result.json\) under reference"):
        find_runs("reference")


def test_a_folder_is_no_suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "basic_v1").mkdir()
    assert find("suite", "basic_v1") == names("suite")["basic_v1"]


def test_names_work_in_an_empty_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    tiny = "--steps 6400 --num_envs 32 --evaluation_episodes 8 --device cpu --draws 4".replace(
        "--draws", "--model.ppo.draws"
    )
    assert main(["fit", "--config", "golden", *tiny.split(), "--out", "x"]) == 0
    assert json.loads(Path("x/result.json").read_text())["config"]["task_args"]["num_cues"] == 8
    assert main(["suite", "tiny_sanity", "--dry_run"]) == 0
    assert main(["suite", "--list"]) == 0
    listed = capfd.readouterr().out
    assert all(name in listed for name in names("suite"))
    assert main(["compare", "--results", "recipe", "--baseline", "golden"]) == 0


def test_a_suite_of_ones_own_takes_a_configuration_by_name(tmp_path):
    (tmp_path / "own.yaml").write_text("config: golden\ngrid: {seed: [0]}")
    (run,) = read_suite(tmp_path / "own.yaml").runs
    assert run.asked["task_args.num_cues"] == 8
    assert Path(run.configs[0]) == names("configuration")["golden"]
    (tmp_path / "golden").write_text("task: copy_memory")
    assert read_suite(tmp_path / "own.yaml").runs[0].asked["task"] == "copy_memory"


UNKNOWN = {
    "suite basic_v": "no suite at basic_v, and none of that name comes with memsuite; did you mean: basic_v1",
    "fit --config goldne": "no configuration at goldne, and none of that name comes with memsuite; did you mean: g",
    "compare --results x --baseline refrence": "no results at x, and none of that name comes with memsuite; they are: ",
    "report --results golden_v3": "did you mean: golden_v2",
}


@pytest.mark.parametrize("line", UNKNOWN)
def test_an_unknown_name_is_one_line_with_the_nearest(line, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    answer = answer_in(tmp_path, lambda: capfd.readouterr().err)
    assert UNKNOWN[line] in answer(*line.split())


def test_tests_with_every_python_name_those_that_are_not_there():
    ended = subprocess.run([ROOT / "tests" / "pythons.sh", "9.9"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "passed: none; failed: none; no interpreter: 9.9\n")
