"""Files of many runs: reading returns exactly the written runs, and a bad file gives one line that names it."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsuite.errors import UsageError
from memsuite.runs.collection import find_runs, read_collection, write_collection

NAMES = st.sampled_from(["task", "seed", "success", "config", "ppo", "epochs", "steps", "hardware", "own"])
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
RUNS = st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=4)


def exact(value):
    """Distinguish 1 from 1.0 and from true, and 0.0 from -0.0."""
    return json.dumps(value, sort_keys=True)


@given(runs=RUNS)
def test_a_round_trip_is_exact(runs, tmp_path_factory):
    file = tmp_path_factory.mktemp("r") / "r.jsonl"
    write_collection(file, runs)
    assert exact(read_collection(file)) == exact(runs)
    before = file.read_text()
    write_collection(file, read_collection(file))
    assert file.read_text() == before
    assert len(before.splitlines()) == 1 + len(runs)


RUN = {"success": 0.5, "task": "n_back", "seed": 0, "config": {"ppo": {"epochs": 4}, "steps": 9, "task": "n_back"}}


def test_what_is_common_stands_in_the_header_only_and_keys_are_in_order(tmp_path):
    file = tmp_path / "r.jsonl"
    other = {**RUN, "seed": 1, "config": {**RUN["config"], "ppo": {"epochs": 1}}}
    write_collection(file, [RUN, other])
    header, first, second = map(json.loads, file.read_text().splitlines())
    assert header["common"] == {"task": "n_back", "success": 0.5, "config": {"task": "n_back", "steps": 9, "ppo": {}}}
    assert first == {"seed": 0, "config": {"ppo": {"epochs": 4}}}
    assert second == {"seed": 1, "config": {"ppo": {"epochs": 1}}}
    assert list(read_collection(file)[0]) == ["task", "seed", "success", "config"]
    assert list(read_collection(file)[0]["config"]) == ["task", "steps", "ppo"]


HEADER = '{"format": 1, "runs": 1, "common": {"task": "n_back", "config": {}}}'
BAD = {
    "": "line 1 is not JSON",
    "[]": "line 1 is no header",
    '{"runs": []}': "line 1 is no header",
    '{"format": 1, "runs": 0, "common": []}': "line 1 is no header",
    '{"format": 2, "runs": 1, "common": {}}\n{}': "line 1 is of format 2",
    HEADER: "line 1 counts 1 runs and 0 follow",
    f"{HEADER}\n{{}}\n{{}}": "line 1 counts 1 runs and 2 follow",
    f"{HEADER}\n{{": "line 2 is not JSON",
    f"{HEADER}\n\n{{}}": "line 2 is not JSON",
    f"{HEADER}\n[1]": "line 2 holds no run",
    f'{HEADER}\n{{"task": "x"}}': "line 2: 'task' is in the header's common part too",
    f'{HEADER}\n{{"config": 3}}': "line 2: 'config' is in the header's common part too",
    '{"format": 1, "runs": 0, "common": {}}': "holds no results",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_named_with_its_line(text, tmp_path):
    (tmp_path / "r.jsonl").write_text(text)
    with pytest.raises(UsageError, match=r"r\.jsonl") as caught:
        find_runs(tmp_path / "r.jsonl")
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.jsonl"):
        write_collection(tmp_path / "r.json", [RUN])
    with pytest.raises(UsageError, match="a value that JSON has not"):
        write_collection(tmp_path / "r.jsonl", [{**RUN, "success": float("nan")}])
    assert not list(tmp_path.iterdir())


def test_files_of_before_and_folders_still_read(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"a": [RUN], "b": {"c": {**RUN, "seed": 1}}}))
    assert [run["seed"] for _, run in find_runs(tmp_path / "r.json")] == [0, 1]
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "result.json").write_text(json.dumps(RUN))
    assert find_runs(tmp_path / "x") == [(str(tmp_path / "x" / "y"), RUN)]
    (tmp_path / "x" / "y" / "result.json").write_text("[]")
    with pytest.raises(UsageError, match=r"result\.json holds no run"):
        find_runs(tmp_path / "x")


def test_reading_runs_needs_neither_pandas_nor_torch():
    code = "import sys, memsuite.runs.collection; print(sorted({'pandas', 'torch', 'numpy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
