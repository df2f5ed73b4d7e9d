"""The observability gap: a cell beside its twin that shows the answer."""

from memsuite.analysis.gap import observability_gaps
from memsuite.analysis.report import write_report
from memsuite.analysis.results import read_results

from .made import result, write_runs


def of_twins(folder, *settings):
    made = [
        result(seed=seed, success=success, config={"steps": 20000, "ppo": {}, "task_args": {"reveal": reveal}})
        for seed, success, reveal in settings
    ]
    return read_results(write_runs(folder, made))


def test_a_cell_stands_beside_its_twin(tmp_path):
    table = of_twins(tmp_path / "runs", (0, 0.5, False), (1, 0.7, False), (0, 1.0, True))
    found = observability_gaps(table)
    assert found["rows"] == [["delayed_cue-easy", "gru", "1.000", "0.500", "+0.500", "1"]]  # of the seeds of both
    page = write_report(table, tmp_path / "report").read_text()
    assert "What memory costs" in page
    assert "+0.500" in page


def test_rows_that_differ_in_a_setting_or_the_objective_are_told_apart(tmp_path):
    made = []
    for width, objective, memory in ((32, "ppo", 0.3), (64, "ppo", 0.5), (64, "supervised", 0.7)):
        for reveal in (True, False):
            about = {"task_args": {"reveal": reveal}, "controller_args": {"hidden_dim": width}}
            config = {"steps": 20000, "ppo": {}, **about}
            made.append(result(success=1.0 if reveal else memory, config=config, objective=objective))
    found = observability_gaps(read_results(write_runs(tmp_path, made)))
    assert found["headings"][:3] == ["task", "controller", "settings"]
    told = {tuple(row[2].split(", ")): row[5] for row in found["rows"]}
    assert sorted(told.values()) == ["+0.300", "+0.500", "+0.700"]
    assert len(told) == 3
    assert [gap for names, gap in told.items() if "supervised" in names] == ["+0.300"]


def test_without_twins_there_is_no_gap(tmp_path):
    for number, reveal in enumerate((True, False)):
        table = of_twins(tmp_path / str(number), (0, 0.5, reveal))
        assert observability_gaps(table)["rows"] == []
        assert "What memory costs" not in write_report(table, tmp_path / f"report{number}").read_text()
