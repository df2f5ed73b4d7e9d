"""Result files of strangers: a comparison of them is right, or one line says what is wrong and in which file."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from examples import check_line, fuzz, judged
from hypothesis import strategies as st

from memsuite.__main__ import main
from memsuite.errors import UsageError

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))
from made import result

NAMES = (
    "gru",
    "my.Model",
    "größe →",
    "=HYPERLINK(1)",
    "$\\foo",
    "[bold]x[/]",
    "a b",
    "<b>",
    "-1",
    "nan",
    "None",
    "1e5",
)
KINDS = {  # of another kind than a field is
    "text": "many",
    "a list": [1, 2],
    "a mapping": {"a": 1},
    "many digits": 10**30,
    "infinite": float("inf"),
    "true": True,
    "huge text": "x" * 200_000,
}
NUMBERS = ("success", "success_low", "success_high", "score", "cpu_seconds", "steps_per_second", "target_success")
WHOLE = ("seed", "horizon", "env_steps", "iterations", "parameters", "episodes_evaluated", "world_size")
FIELDS = {  # a field and values of the right kind that it cannot have
    "success": [7.0, -0.1, 1.0001],
    "success_low": [-1.0, 2.0],
    "success_high": [1.5],
    "target_success": [-0.5, 3.0],
    "oracle": [1.5],
    "random": [-1.0],
    "chance": [2.0],
    "horizon": [0, -5],
    "seed": [-1],
    "env_steps": [-10],
    "parameters": [-1],
    "schema": [99, 10**6, 0, -2],
    "task": ["a\nb", "x" * 5000, "\ud800", "a\x1b[31m", ""],
    "controller": ["a\tb", "\x00"],
    "config": [{"ppo": []}, {"ppo": {}, "num_envs": "8"}, {"ppo": {}, "seed": -0.5}, {"steps": "many", "ppo": {}}],
    "curriculum": [
        {"argument": 1, "start": 1, "factor": 2},
        {"start": 1},
        {"argument": "a", "start": 1, "factor": "x"},
    ],
    "hardware": [[], "cpu"],
    "reached_target": [1, "yes"],
}
MISSING = ("task", "difficulty", "horizon", "controller", "seed")
TEXTS = {  # changes of the whole file
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "two files": lambda text: text + text,
    "not JSON": lambda text: text.replace(":", "=", 1),
    "deep": lambda text: "[" * 100_000,
    "a number": lambda text: "3",
    "no runs": lambda text: "[]",
    "other things": lambda text: '{"a": [1, {"success": 1}]}',
    "twice": lambda text: text.replace('"success": ', '"success": 0.5, "success": ', 1),
    "many digits": lambda text: text.replace('"seed": ', '"seed": ' + "9" * 5000, 1),
    "bytes": lambda text: "\udcff" + text,
}
LINES = {  # changes of a file of JSON Lines
    "a line too few": lambda lines: lines[:-1],
    "a line too many": lambda lines: [*lines, lines[-1]],
    "another format": lambda lines: [lines[0].replace('"format": 1', '"format": 2'), *lines[1:]],
    "no header": lambda lines: lines[1:],
    "a broken line": lambda lines: [*lines[:-1], lines[-1][:-5]],
    "a list for a run": lambda lines: [*lines[:-1], "[]"],
    "common twice": lambda lines: [*lines[:-1], lines[-1].replace("{", '{"task": "delayed_cue", ', 1)],
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A file of results.

    Attributes:
        runs: controller, seed and success of each.
        lines: whether it is of JSON Lines.
        fault: what is wrong; empty if nothing is.
        more: fields that mean nothing to memsuite.
    """

    runs: tuple[tuple[str, int, float], ...]
    lines: bool
    fault: str
    more: bool


def faults_of(lines: bool) -> list[str]:
    """List what can be wrong with a file."""
    found = [f"kind: {name}: {kind}" for name in (*NUMBERS, *WHOLE) for kind in KINDS]
    found += [f"value: {name}: {index}" for name, values in FIELDS.items() for index in range(len(values))]
    found += [f"missing: {name}" for name in MISSING] + ["twice a seed", "low above success", "high below success"]
    return found + [f"lines: {name}" for name in LINES] if lines else found + [f"text: {name}" for name in TEXTS]


@st.composite
def plans(draw: Any) -> Plan:
    """Draw a file; half of them have a fault."""
    lines = draw(st.booleans())
    fault = draw(st.one_of(st.just(""), st.sampled_from(faults_of(lines))))
    cells = st.tuples(st.sampled_from(NAMES), st.integers(0, 2**32 - 1))
    found = draw(st.lists(cells, min_size=2, max_size=6, unique=True))
    successes = [draw(st.sampled_from([0.0, 0.25, 0.5, 0.875, 1.0])) for _ in found]
    return Plan(
        tuple((*cell, one) for cell, one in zip(found, successes, strict=True)), lines, fault, draw(st.booleans())
    )


def content_of(plan: Plan) -> bytes:
    """Write the file of a plan."""
    more = {"mine": {"a": [1, None]}, "note": "x"} if plan.more else {}
    runs = [copy.deepcopy(result(name, seed, success)) | more for name, seed, success in plan.runs]
    where, _, rest = plan.fault.partition(": ")
    name, _, which = rest.partition(": ")
    if where == "kind":
        runs[0][name] = KINDS[which]
    elif where == "value":
        runs[0][name] = FIELDS[name][int(which)]
    elif where == "missing":
        del runs[0][name]
    elif where == "twice a seed":
        runs.append(dict(runs[0]))
    elif where.endswith(" success"):
        runs[0] |= {"success": 0.5, "success_low": 0.1, "success_high": 0.9}
        runs[0] |= {"success_low": 0.6} if where.startswith("low") else {"success_high": 0.4}
    if not plan.lines:
        text = json.dumps(runs)
        return TEXTS.get(rest if where == "text" else "", lambda text: text)(text).encode(errors="surrogateescape")
    header = {"format": 1, "runs": len(runs), "common": {"task": "delayed_cue"}}
    own = [{key: value for key, value in run.items() if (key, value) != ("task", "delayed_cue")} for run in runs]
    if any(run.get("task") != "delayed_cue" for run in runs):
        header["common"], own = {}, runs
    lines = [json.dumps(one) for one in (header, *own)]
    return "\n".join(LINES.get(rest if where == "lines" else "", lambda lines: lines)(lines)).encode()


@functools.cache
def place() -> Path:
    """Make the folder of all examples."""
    return Path(tempfile.mkdtemp(prefix="fuzz"))


def answered(*words: str) -> tuple[int, str, str]:
    """Run a command here; return its status, and what it wrote to both outputs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(words))
    return status, out.getvalue(), err.getvalue()


@fuzz(plans(), quick=60)
def test_results(plan: Plan) -> None:
    """A summary has every cell with the mean of its seeds; compared with itself nothing is worse."""
    file = place() / f"changed.json{'l' if plan.lines else ''}"
    file.write_bytes(content_of(plan))

    def build() -> list[dict[str, Any]]:
        status, out, err = answered("compare", "--results", str(file), "--baseline", str(file), "--json")
        if status:
            assert err.startswith("memsuite compare: error: "), err
            assert "MEMSUITE_TRACEBACK" not in err, err
            check_line(err.strip(), "changed.json")
            raise UsageError(err.strip())
        return json.loads(out)

    os.environ.pop("MEMSUITE_TRACEBACK", None)
    rows = judged("result files", {plan.fault} - {""}, "changed.json", build)
    if rows is None:
        return
    means: dict[str, list[float]] = {}
    for name, _, success in plan.runs:
        means.setdefault(name, []).append(success)
    assert {row["controller"]: row["new"] for row in rows} == {
        name: pytest.approx(sum(each) / len(each)) for name, each in means.items()
    }
    assert all(row["verdict"] != "worse" and row["new"] == row["old"] for row in rows)


@fuzz(plans(), quick=None, long=30)
def test_reports(plan: Plan) -> None:
    """A report is a page, or one line."""
    file, page = place() / f"changed.json{'l' if plan.lines else ''}", place() / "page"
    file.write_bytes(content_of(plan))

    def build() -> str:
        status, _, err = answered("report", "--results", str(file), "--out", str(page), "--overwrite")
        if status:
            check_line(err.strip(), "changed.json")
            raise UsageError(err.strip())
        return (page / "index.html").read_text()

    html = judged("result files in reports", {plan.fault} - {""}, "changed.json", build)
    assert html is None or "<b>\n" not in html
