"""Learning curves survive being collected into one file; a curve that is none is one line."""

import json

import pytest

from analysis.made import result, write_runs
from memsuite.__main__ import main
from memsuite.analysis.curves import read_curves, with_curve
from memsuite.analysis.models import compare_models
from memsuite.analysis.results import read_results
from memsuite.errors import UsageError


@pytest.fixture
def collected(tmp_path, monkeypatch):
    """Return a folder of runs of two models, and the file that they were collected in."""
    monkeypatch.chdir(tmp_path)
    runs = [result(controller, seed, 0.5 + seed / 4) for controller in ("gru", "lru") for seed in (0, 1)]
    folder = write_runs(tmp_path / "runs", runs)
    assert main(["report", "--results", "runs", "--collect", "all.jsonl"]) == 0
    return folder, tmp_path / "all.jsonl"


def test_a_file_of_runs_holds_the_curves_of_their_folders(collected):
    of_folder, of_file = (read_curves(read_results(path)) for path in collected)
    assert len(of_folder) == 12
    assert of_file["env_steps"].tolist() == of_folder["env_steps"].tolist()
    assert of_file["success"].tolist() == pytest.approx(of_folder["success"].tolist(), abs=1e-4)


def test_the_area_under_the_curve_is_the_same_from_a_file(collected):
    of_folder, of_file = (compare_models(read_results(path), ["gru", "lru"]).cells["area"] for path in collected)
    assert of_file.notna().all()
    assert of_file.tolist() == pytest.approx(of_folder.tolist(), abs=1e-4)


def test_a_curve_that_was_collected_is_kept(collected):
    assert main(["report", "--results", "all.jsonl", "--out", "again", "--collect", "again.jsonl"]) == 0
    assert collected[1].read_text() == collected[1].with_name("again.jsonl").read_text()


def test_a_run_without_evaluations_has_no_curve(tmp_path):
    folder = write_runs(tmp_path, [result()], curve=False)
    (place,) = folder.rglob("result.json")
    assert with_curve(str(place.parent), {"seed": 0}) == {"seed": 0}
    assert read_curves(read_results(folder)).empty


@pytest.mark.parametrize(
    "curve",
    [
        {"env_steps": [1, 2], "success": [0.5], "return": [None, None]},
        {"env_steps": ["a"], "success": [0.5], "return": [None]},
        {"env_steps": 3, "success": 0.5, "return": None},
        {"env_steps": [[1]], "success": [[2]], "return": [[3]]},
    ],
    ids=repr,
)
def test_a_curve_that_is_none_is_one_line(curve, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps([result() | {"curve": curve}]))
    with pytest.raises(UsageError, match="curve does not hold the numbers of a run") as refused:
        read_curves(read_results(tmp_path / "r.json"))
    assert "\n" not in str(refused.value)


def test_parts_that_a_curve_lacks_are_unknown(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps([result() | {"curve": {"env_steps": [5], "success": [0.5]}}]))
    curves = read_curves(read_results(tmp_path / "r.json"))
    assert curves["success"].tolist() == [0.5]
    assert curves["return"].isna().all()


def test_the_area_under_the_curve_is_of_all_seeds_or_unknown(collected):
    folder, _ = collected
    for path in folder.rglob("metrics.csv"):
        if "gru" in path.parent.parent.name and path.parent.name.endswith("1"):
            path.unlink()
    found = compare_models(read_results(folder), ["gru", "lru"]).cells.set_index("model")["area"]
    assert found.isna().to_dict() == {"gru": True, "lru": False}
