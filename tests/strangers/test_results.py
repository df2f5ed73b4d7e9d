"""Results, reports and suites of strangers: one line or a whole page, and never a traceback."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
from made import result

from memsuite.__main__ import main
from memsuite.analysis import report as report_module
from memsuite.analysis.report_folder import replace_report
from memsuite.cli import compare as compare_module
from memsuite.launch.plain import Unbroken

NAMES = ("$\\foo", "a$\\frac{$b", "[bold]x[/bold]", "[/x]", "<b>x</b>", "größe →", "=HYPERLINK(1)", ":smile:")


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A function that writes results, of which the first differs, and returns the file."""
    monkeypatch.chdir(tmp_path)

    def write(**more) -> str:
        runs = [result(seed=0) | more, result(seed=1), result("lstm", seed=0)]
        Path("r.json").write_text(json.dumps(runs))
        return "r.json"

    return write


def test_a_text_is_shown_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [result(name, command=f"{name} --x", commit=name) for name in NAMES]
    Path("r.json").write_text(json.dumps(runs))
    assert main(["compare", "--results", "r.json", "--baseline", "r.json"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    assert main(["report", "--results", "r.json", "--out", "page"]) == 0
    assert "<b>x" not in Path("page/index.html").read_text()


def test_a_spreadsheet_is_given_no_formula(given):
    given(controller="=HYPERLINK(1)", command="@cmd", commit="+1", **{"-extra": "-2", "score": -0.5})
    assert main(["report", "--results", "r.json", "--out", "page"]) == 0
    with open("page/results.csv", newline="") as file:
        rows = list(csv.reader(file))
    texts = [text for row in rows for text in row]
    assert {"'=HYPERLINK(1)", "'@cmd", "'+1", "'-extra", "'-2", "-0.5"} <= set(texts)  # a number stays one


REFUSED = {
    "half a letter": ({"controller": "\ud800x"}, "no text that can be shown"),
    "a control": ({"controller": "a\x1b[31m"}, "no text that can be shown"),
    "a huge text": ({"command": "x" * 10**6}, "too long"),
    "a long name": ({"controller": "x" * 5000}, "must be a name in one line"),
    "two lines": ({"task": "a\nb"}, "must be a name in one line"),
    "many digits": ({"env_steps": 10**30}, "more than 64 bits"),
    "many digits within": ({"hardware": {"cores": 10**30}}, "more than 64 bits"),
    "a list for a name": ({"controller": ["gru"]}, "controller is ['gru']"),
    "a success of 7": ({"success": 7.0}, "between 0 and 1"),
    "a text for a number": ({"config": {"steps": "many", "ppo": {}}}, "config.steps is the text 'many'"),
    "no environments": ({"config": {"num_envs": None, "ppo": {}}}, "config has no 'num_envs'"),
    "a curriculum": ({"curriculum": {"argument": "horizon", "start": 1, "factor": "x"}}, "curriculum.factor is 'x'"),
    "a list of numbers": ({"success": [1, 2]}, "success is [1, 2]"),
}


@pytest.mark.parametrize("verb", ["compare", "report"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_result_is_one_line_that_names_it(given, capsys, verb, case):
    more, words = REFUSED[case]
    assert main([verb, "--results", given(**more)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert len(said) < 1000
    assert words in said


def test_what_a_table_cannot_hold_is_written_as_text(given):
    given(kinds=["a", 1], other={"b": 1}, mixed="x")
    runs = json.loads(Path("r.json").read_text())
    runs[1]["mixed"] = 3
    Path("r.json").write_text(json.dumps(runs))
    assert main(["report", "--results", "r.json", "--out", "page"]) == 0


@pytest.mark.parametrize("name", ["metrics.csv", "retention.json"])
@pytest.mark.parametrize(
    "text", ["", "evaluation_success\nx\n", "env_steps,evaluation_success\n1,x\n", "[]", "{", "\0"]
)
def test_the_files_beside_a_result(tmp_path, monkeypatch, capsys, name, text):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/result.json").write_text(json.dumps(result()))
    Path("run", name).write_text(text)
    status = main(["report", "--results", "run", "--out", "page"])
    said = capsys.readouterr().err
    assert (status, len(said.splitlines())) in ((0, 0), (2, 1))
    assert status == 0 or f"run/{name}" in said


def test_a_report_that_fails_leaves_the_earlier_one(given, monkeypatch, capsys):
    assert main(["report", "--results", given(), "--out", "page"]) == 0
    Path("page/mine.txt").write_text("mine")
    before = {path: path.read_bytes() for path in Path("page").rglob("*") if path.is_file()}
    monkeypatch.setattr(report_module, "_runs", lambda table: {}["fails late"])
    assert main(["report", "--results", "r.json", "--out", "page", "--overwrite"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {path: path.read_bytes() for path in Path("page").rglob("*") if path.is_file()} == before


def test_a_report_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError):
        replace_report(tmp_path / "new", lambda folder: {}["fails"])
    assert not (tmp_path / "new").exists()


def test_a_comparison_that_fails_is_not_worse(given, monkeypatch, capsys):
    monkeypatch.setattr(compare_module, "of_one", lambda *_: {}["a mistake of ours"])
    assert main(["compare", "--results", given()]) == 2
    assert "a mistake of ours" in capsys.readouterr().err


def test_a_comparison_that_cannot_be_written_is_one_line(given, capsys):
    Path("file").write_text("")
    assert main(["compare", "--results", given(), "--out", "file/x.json"]) == 2
    assert "cannot write --out" in capsys.readouterr().err


def piped(*words: str, cwd: Path) -> tuple[int, str]:
    """Run a command whose output nobody reads; return its status, and what it said besides."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "memsuite", *words]
    out = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=cwd)
    os.close(write)
    return out.returncode, out.stderr


def test_a_comparison_that_nobody_reads_still_judges(given, tmp_path):
    Path("base.json").write_text(json.dumps([result(seed=seed) for seed in range(3)]))
    Path("new.json").write_text(json.dumps([result(seed=seed, success=0.5) for seed in range(3)]))
    assert piped("compare", "--results", "new.json", "--baseline", "base.json", cwd=tmp_path) == (1, "")


def test_a_suite_that_nobody_reads_goes_on(capsys):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        left = Unbroken(stream)
        for _ in range(3):
            print("a line", file=left, flush=True)
    assert capsys.readouterr().err.splitlines() == ["memsuite: nobody reads the output any more; the work goes on"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid: {" + ", ".join(f"k{i}: {list(range(10))}" for i in range(6)) + "}", "has 1,000,000 runs or more"),
        ("entries: [" + "{grid: {seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], horizon: [1, 2, 3]}}, " * 400 + "]", "two runs"),
        ("entries: ['../.']", "entries holds '../.'"),
    ],
)
def test_a_suite_that_cannot_be(tmp_path, monkeypatch, capsys, text, words):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(text)
    assert main(["suite", "s.yaml", "--dry_run"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert words in said
