"""``memsuite tasks``: the table, the JSON, the measured anchors, the pictures."""

from __future__ import annotations

import json

import pytest

from memsuite.cli.tasks import main
from memsuite.errors import UsageError
from memsuite.tasks import PRESETS, TASKS


def test_json_lists_every_preset(capsys):
    assert main("tasks", ["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["task"], row["difficulty"]) for row in rows] == list(PRESETS)
    assert {"horizon", "target_success", "bits_to_remember", "steps_to_remember", "memoryless"} <= set(rows[0])


def test_table_names_every_task(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main("tasks", ["--difficulty", "easy,hard"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TASKS)
    assert "hard" in printed
    assert "extreme" not in printed


def test_anchors_are_measured(capsys):
    assert main("tasks", ["--anchors", "--json", "--task", "n_back", "--difficulty", "easy", "--episodes", "300"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in rows] == ["random", "memoryless", "window(25)", "oracle"]
    assert rows[-1]["measured"] == rows[-1]["declared"] == 1.0
    assert all(row["low"] <= row["measured"] <= row["high"] + 1e-9 and row["episodes"] == 300 for row in rows)


def test_pictures_are_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main("tasks", ["--draw", str(tmp_path), "--task", "n_back,distractor_nav"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["distractor_nav.png", "n_back.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", "/x"])
def test_pictures_that_cannot_be_written_are_named(tmp_path, below):
    pytest.importorskip("matplotlib")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match=r"cannot write --draw .*file"):
        main("tasks", ["--draw", f"{file}{below}", "--task", "n_back"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "nback"], "did you mean: n_back"),
        (["--difficulty", "hrad"], "did you mean: hard"),
        (["--jsn"], "did you mean: --json"),
        (["--anchors", "--episodes", "0"], "least is 1"),
    ],
)
def test_mistakes_are_named(arguments, words):
    with pytest.raises(UsageError, match=words):
        main("tasks", arguments)
