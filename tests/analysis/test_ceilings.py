"""Ceilings (runs that are told the right actions) are shown with the runs of PPO, but never mixed with them."""

import re

from memsuite.__main__ import main
from memsuite.analysis.compare import compare, summarise, with_ceilings
from memsuite.analysis.results import cell_name, labels, read_results

from .made import result, write_runs

TOLD = {"objective": "supervised"}


def runs():
    """Return a model with its ceiling, a model without one, and a ceiling alone; 2 seeds each."""
    both = [result("gru", seed, 0.5 + seed / 100) for seed in range(2)]
    both += [result("gru", seed, 1.0, **TOLD) for seed in range(2)]
    return [*both, *(result(m, s, 0.75, **more) for m, more in (("lru", {}), ("lstm", TOLD)) for s in range(2))]


def test_a_ceiling_is_another_cell_and_stands_beside_its_own(tmp_path):
    table = read_results(write_runs(tmp_path, runs()))
    cells = summarise(table)
    assert cells["objective"].tolist() == ["ppo", "supervised", "ppo", "supervised"]
    found = with_ceilings(cells).set_index("controller")
    assert found["ceiling"].dropna().to_dict() == {"gru": 1.0, "lstm": 0.75}
    assert found["success"].dropna().to_dict() == {"gru": 0.505, "lru": 0.75}
    assert labels(cells)["apart"].tolist() == ["", "supervised", "", "supervised"]
    assert [cell_name(row).count("supervised") for _, row in cells.iterrows()] == [0, 1, 0, 1]


def test_a_ceiling_is_compared_with_a_ceiling_only(tmp_path):
    learnt = read_results(write_runs(tmp_path / "a", [result("gru", seed, 0.5) for seed in range(5)]))
    told = read_results(write_runs(tmp_path / "b", [result("gru", seed, 1.0, **TOLD) for seed in range(5)]))
    assert sorted(compare(learnt, told)["verdict"]) == ["missing", "new"]
    assert compare(told, told)["verdict"].tolist() == ["similar"]


def test_the_commands_give_ceilings_a_column_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "runs", runs())
    write_runs(tmp_path / "told", [result("gru", seed, 1.0, **TOLD) for seed in range(2)])
    assert main(["compare", "--results", "runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[-5:] == ["success", "interval", "ceiling", "target", "solved"] for line in lines)
    row = next(line for line in lines if " gru " in line)
    assert "0.505" in row
    assert "1.000" in row
    assert next(line for line in lines if " lstm " in line).split()[-2:] == ["0", "seeds"]  # of PPO
    assert main(["report", "--results", "runs"]) == 0
    text = (tmp_path / "report" / "index.html").read_text()
    assert 'type="button">ceiling<' in text
    solved = re.search(r'id="solved".*?</svg>', text, re.DOTALL)[0]
    assert "lru" in solved
    assert "lstm" not in solved
    capsys.readouterr()
    assert main(["report", "--results", "told", "--overwrite"]) == 0
    assert capsys.readouterr().out == "report/index.html: 2 runs; report/results.csv holds the same\n"  # no figures
    assert 'id="solved"' not in (tmp_path / "report" / "index.html").read_text()


def test_without_ceilings_there_is_no_column(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "runs", [result("gru", seed, 0.5) for seed in range(2)])
    assert main(["compare", "--results", "runs"]) == 0
    assert "ceiling" not in capsys.readouterr().out
    assert main(["report", "--results", "runs"]) == 0
    assert ">ceiling<" not in (tmp_path / "report" / "index.html").read_text()
