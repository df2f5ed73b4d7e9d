"""``memsuite bench threads``: rounds of one thread and of several, each in a separate process."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from memsuite.__main__ import main
from memsuite.bench import threads
from memsuite.errors import UsageError

RESULTS = Path(__file__).parents[2] / "results" / "threads.json"


def test_two_threads_are_set_against_one(tmp_path, capsys):
    out = tmp_path / "threads.json"
    line = f"bench threads --json --threads 2 --controllers pseudo_mamba --horizons 20 --repeats 1 --out {out}"
    assert main(line.split()) == 0
    report = json.loads(out.read_text())
    assert report == json.loads(capsys.readouterr().out)
    published = json.loads(RESULTS.read_text())
    assert set(report) == set(published)
    assert set(report["threads"]) == set(published["threads"])
    (row,) = report["threads"]["rows"]
    assert set(row) == set(published["threads"]["rows"][0])
    assert row["median"]["1"]["steps_per_second"] > 0
    assert row["ratio"] == row["ratio_by_round"][0]
    (handover,) = row["handover_ns_by_round"]
    assert handover is None or 1 < handover < 1e8


def test_the_figure_is_the_ratio_of_the_medians(monkeypatch):
    # A round is one thread, two threads, and two processes of one thread.
    rates = {1: iter([10.0, 9.0, 8.0, 30.0, 25.0, 26.0, 20.0, 19.0, 19.0]), 2: iter([30.0, 34.0, 60.0])}
    row = {"steps_per_cpu_second": 1.0, "handover_ns": 40.0}
    monkeypatch.setattr(threads, "_apart", lambda n, *_: row | {"steps_per_second": next(rates[n])})
    (found,) = threads.measure(Console(stderr=True), 2, ["gru"], [200], 3)["rows"]
    assert found["ratio"] == 34 / 20
    assert found["ratio_by_round"] == [3.0, 34 / 30, 3.0]
    assert found["handover_ns_by_round"] == [40.0] * 3
    assert found["processes_ratio"] == 38 / 20
    assert found["processes_ratio_by_round"] == [1.7, 51 / 30, 1.9]


def test_what_fails_in_the_child_is_said():
    with pytest.raises(UsageError, match="nonesuch at horizon 20 failed"):
        threads._apart(2, "nonesuch", 20)
