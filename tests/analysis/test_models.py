"""Models against each other: statistics are SciPy's and rliable's, verdicts are right, mistakes are named."""

import csv
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from scipy import stats

from memsuite.__main__ import main
from memsuite.analysis.compare_tables import of_models
from memsuite.analysis.differences import holm, t_test
from memsuite.analysis.layout import Grid, as_latex, as_markdown
from memsuite.analysis.models import area_under_curve, compare_models, split_names
from memsuite.analysis.plots.models import comparison_figure
from memsuite.analysis.plots.results import _scores
from memsuite.analysis.results import models_of, read_results
from memsuite.analysis.stats import probability_of_improvement, stratified_iqm
from memsuite.errors import UsageError
from memsuite.runs.collection import read_collection, write_collection

from .made import result, write_runs

TASKS = ("delayed_cue", "copy_memory", "n_back")
CONFIG = {"steps": 20000, "ppo": {}}
ROOT = Path(__file__).parents[2]


def runs_of(model, levels, seeds=range(5), spread=0.01, **more):
    """Return runs whose seeds share their luck: what seed 3 draws is the same in all models."""
    found = []
    for task, level in zip(TASKS, levels, strict=True):
        luck = np.random.default_rng(len(task)).normal(0, spread, 20)
        found += [result(model, s, float(np.clip(level + luck[s], 0, 1)), task=task, **more) for s in seeds]
    return found


@pytest.fixture
def table(tmp_path):
    """Mine is better on the first task, equal to the GRU on the second, worse on the third."""
    runs = runs_of("mine.Model", (0.9, 0.7, 0.3)) + runs_of("gru", (0.5, 0.7, 0.8)) + runs_of("lru", (0.4, 0.3, 0.3))
    return read_results(write_runs(tmp_path / "runs", runs))


def verdicts(found):
    return {(row["cell"], row["against"]): row["verdict"] for _, row in found.differences.iterrows()}


def test_each_cell_has_its_verdict(table):
    found = compare_models(table, ["mine.Model", "gru", "lru"])
    assert verdicts(found) == {
        ("delayed_cue-easy", "gru"): "better",
        ("copy_memory-easy", "gru"): "similar",
        ("n_back-easy", "gru"): "worse",
        ("delayed_cue-easy", "lru"): "better",
        ("copy_memory-easy", "lru"): "better",
        ("n_back-easy", "lru"): "similar",
    }
    assert set(found.differences["test"]) == {"paired t"}
    assert found.missing == []


def test_shared_seeds_are_paired_as_scipy_does(table):
    """The seeds share their luck here, so that pairing sees a difference that Welch's test does not."""
    x, y = [0.5, 0.6, 0.8, 0.9], [0.45, 0.56, 0.74, 0.85]
    ours, theirs = dict(enumerate(x)), dict(enumerate(y))
    nothing = dict.fromkeys(ours, 0.0)
    found = t_test(ours, nothing, theirs, nothing)
    expected = stats.ttest_rel(x, y)
    assert found.test == "paired t"
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    other = {seed + 7: value for seed, value in theirs.items()}
    apart = t_test(ours, nothing, other, dict.fromkeys(other, 0.0))
    assert apart.test == "Welch t"
    assert apart.p == pytest.approx(stats.ttest_ind(x, y, equal_var=False).pvalue)
    assert found.p < 0.01 < apart.p


def test_no_seed_is_left_out_where_one_side_has_more_of_them():
    one, two = {0: 0.5, 1: 0.6, 2: 0.7}, {1: 0.4, 2: 0.6}
    found = t_test(one, dict.fromkeys(one, 0.0), two, dict.fromkeys(two, 0.0))
    assert found.test == "Welch t"
    assert found.interval.mean == pytest.approx(0.6 - 0.5)  # the difference of the means that are shown
    assert t_test(one, dict.fromkeys(one, 0.0), two | {9: 0.1}, dict.fromkeys([1, 2, 9], 0.0)).test == "Welch t"
    assert t_test({0: 0.5}, {0: 0.0}, {0: 0.4}, {0: 0.0}).test == ""


def test_seeds_that_agree_exactly_are_no_surer_than_their_episodes():
    ones, noise = dict.fromkeys(range(5), 1.0), dict.fromkeys(range(5), 1e-4)
    lower = dict.fromkeys(range(5), 0.99)
    assert t_test(ones, noise, lower, noise).p > 0.05
    assert t_test(ones, noise, ones, noise).p == 1


def test_holm_is_holms():
    """The example of Holm's procedure: 0.01, 0.04, 0.03, 0.005 are corrected to 0.03, 0.06, 0.06, 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, float("nan"), 0.7])[::2] == pytest.approx([1.0, 1.0])
    assert np.isnan(holm([0.6, float("nan")])[1])
    assert holm([]) == []


def test_improvement_is_the_statistic_of_mann_and_whitney_over_tasks():
    """As rliable's ``probability_of_improvement``: the mean over tasks of U / (n m)."""
    random = np.random.default_rng(0)
    pairs = [(random.normal(0.2, 1, 5).round(1), random.normal(0, 1, 4).round(1)) for _ in range(3)]
    expected = np.mean([stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in pairs])
    found = probability_of_improvement(pairs)
    assert found.mean == pytest.approx(expected)
    assert 0 <= found.low < found.mean < found.high <= 1
    turned = probability_of_improvement([(y, x) for x, y in pairs])
    assert turned.mean == pytest.approx(1 - expected)
    assert probability_of_improvement([(np.ones(3), np.ones(3))]).mean == 0.5


def test_equal_models_are_called_different_as_rarely_as_is_said(tmp_path):
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(60):
        runs = []
        for model in ("a.A", "gru", "lru"):
            runs += [
                result(model, seed, float(random.binomial(1024, random.choice([0.99, 0.7, 0.6])) / 1024), task=task)
                for task in TASKS
                for seed in range(5)
            ]
        (tmp_path / "x.json").write_text(json.dumps(runs))
        found = compare_models(read_results(tmp_path / "x.json"), ["a.A", "gru", "lru"])
        alarms += bool(found.differences["verdict"].isin(["better", "worse"]).any())
    assert alarms <= 7  # 5% of 60 is 3; 8 or more has a chance of 1%


def test_aggregates_are_over_the_cells_that_all_ran(tmp_path):
    runs = runs_of("a.A", (0.9, 0.9, 0.9)) + runs_of("gru", (0.5, 0.5, 0.5))
    runs += [run for run in runs_of("lru", (0.4, 0.4, 0.4)) if run["task"] != "n_back"]
    table = read_results(write_runs(tmp_path, runs))
    found = compare_models(table, ["a.A", "gru", "lru"])
    assert found.missing == ["n_back-easy (lru)"]
    assert found.overall["cells"].tolist() == [2, 2, 2]
    own = table[(table["controller"] == "gru") & (table["task"] != "n_back")]
    strata = [rows["score"].to_numpy(float) for _, rows in own.groupby("task", sort=False)]
    expected = stratified_iqm(strata)
    row = found.overall[found.overall["model"] == "gru"].iloc[0]
    assert (row["iqm"], row["iqm_low"], row["iqm_high"]) == pytest.approx((expected.mean, expected.low, expected.high))
    assert row["first_is_better"] == 1


def test_one_seed_says_nothing_of_the_spread(tmp_path):
    runs = runs_of("a.A", (0.9, 0.9, 0.9), [0]) + runs_of("gru", (0.5, 0.5, 0.5), [0])
    found = compare_models(read_results(write_runs(tmp_path, runs)), ["a.A", "gru"])
    assert set(found.differences["verdict"]) == {"unknown"}
    assert found.overall[["iqm_low", "first_is_better_low"]].isna().all(axis=None)


def test_returns_are_compared_where_no_decision_is_scored(tmp_path):
    none = dict.fromkeys(["success", "success_low", "success_high", "score", "chance", "target_success"])
    runs = []
    for model, level in (("a.A", 480.0), ("gru", 100.0)):
        for seed in range(4):
            low, high = level + seed - 1, level + seed + 1
            returns = {"return_mean": level + seed, "return_low": low, "return_high": high}
            runs.append(result(model, seed, task="gym:CartPole-v1", reached_target=False) | none | returns)
    folder = write_runs(tmp_path / "runs", runs, curve=False)
    found = compare_models(read_results(folder), ["a.A", "gru"])
    assert found.cells["measures"].tolist() == ["return", "return"]
    assert found.cells["value"].tolist() == [481.5, 101.5]
    assert found.differences["verdict"].tolist() == ["better"]
    assert found.overall["first_is_better"].tolist()[1] == 1
    assert "Final return" in of_models(found).text("markdown")
    assert comparison_figure(found).axes[0].get_xlabel() == "final return"


def test_settings_of_the_task_are_part_of_a_cell_and_those_of_the_model_are_not(tmp_path):
    runs = []
    for cues in (4, 6):
        config = CONFIG | {"task_args": {"num_cues": cues}}
        runs += [result("a.A", s, 0.9, config=config | {"controller_args": {"width": 7}}) for s in range(3)]
        runs += [result("gru", s, 0.5 + cues / 100, config=config) for s in range(3)]
    found = compare_models(read_results(write_runs(tmp_path, runs)), ["a.A", "gru"])
    assert sorted(set(found.cells["cell"])) == ["delayed_cue-easy (num_cues=4)", "delayed_cue-easy (num_cues=6)"]
    assert found.cells["seeds"].tolist() == [3] * 4
    assert "width=7" in found.models["variant"][0]


def test_recipes_are_told_apart(tmp_path):
    """The published GRU on copy memory by both recipes, as if both had had the same budget."""
    runs = [
        run | {"config": run["config"] | {"steps": 1000}}
        for name in ("reference", "reference_v2")
        for run in read_collection(ROOT / "results" / f"{name}.jsonl")
        if (run["task"], run["difficulty"], run["controller"], run.get("objective") or "ppo")
        == ("copy_memory", "easy", "gru", "ppo")
        and (name == "reference" or run["seed"] < 2)
    ]
    table = read_results(write_runs(tmp_path, runs, curve=False))
    names = ["gru (recipe=v1)", "gru (recipe=v2)"]
    assert sorted(set(models_of(table))) == names
    (models,) = _scores(table).values()
    assert [len(scores) for (scores,) in models.values()] == [5, 2]
    with pytest.raises(UsageError, match=r"name one: 'gru \(recipe=v1\)', 'gru \(recipe=v2\)'"):
        compare_models(table, ["gru", "lru"])
    (row,) = compare_models(table, names).differences.to_dict("records")
    assert (row["test"], row["verdict"]) == ("Welch t", "unknown")  # five seeds beside two can say nothing
    assert row["difference"] < 0


def test_a_model_is_named_as_in_the_tables(tmp_path):
    """By what tells it apart from the others there, or by all settings that are not the recipe's."""
    runs = [
        result(model, s, level, config=CONFIG | {"num_envs": 16, "controller_args": {"hidden_dim": width}})
        for model, width, level in (("gru", 16, 0.9), ("gru", 32, 0.5), ("lru", 16, 0.7))
        for s in range(3)
    ]
    table = read_results(write_runs(tmp_path, runs))
    (short, *_), (full, *_) = models_of(table), sorted(set(table["controller"] + " (" + table["variant"] + ")"))
    assert len(short) < len(full)
    for name in (short, full):
        found = compare_models(table, [name, "lru"])
        assert found.cells["seeds"].tolist() == [3, 3]
    with pytest.raises(UsageError, match=re.escape(f"no runs of the model 'gru (width=1)'; valid names: {full}")):
        compare_models(table, ["gru (width=1)", "lru"])


def test_a_model_of_several_settings_is_named_with_them(tmp_path):
    def wide(n):
        return CONFIG | {"controller_args": {"hidden_dim": n}}

    runs = [result("gru", s, 0.9, config=wide(64)) for s in range(3)]
    runs += [result("gru", s, 0.5, config=wide(32)) for s in range(3)] + [result("lru", s, 0.7) for s in range(3)]
    table = read_results(write_runs(tmp_path, runs))
    with pytest.raises(UsageError, match=r"gru ran delayed_cue-easy with several settings; name one: 'gru \(hidden_d"):
        compare_models(table, ["gru", "lru"])
    names = split_names("gru (hidden_dim=64),gru (hidden_dim=32),lru")
    assert compare_models(table, names).cells["value"].tolist() == pytest.approx([0.9, 0.5, 0.7])


def test_a_bare_name_means_the_runs_of_the_recipe(tmp_path):
    runs = [result("gru", s, 0.9) for s in range(3)] + [result("lru", s, 0.7) for s in range(3)]
    runs += [result("gru", s, 0.1, config=CONFIG | {"controller_args": {"hidden_dim": 32}}) for s in range(3)]
    found = compare_models(read_results(write_runs(tmp_path, runs)), ["gru", "lru"])
    assert found.cells["value"].tolist() == pytest.approx([0.9, 0.7])


def test_the_area_is_the_mean_over_training(tmp_path):
    """0.25, 0.5, 1.0 of the success at 5,000, 10,000 and 20,000 of 40,000 steps; before, a random policy's 0.125."""
    folder = write_runs(tmp_path, [result(success=0.8, random=0.125, config=CONFIG | {"steps": 40000})])
    (_, run), *_ = read_results(folder).iterrows()
    expected = (5 * 0.125 + 5 * 0.2 + 10 * 0.4 + 20 * 0.8) / 40
    assert area_under_curve(run) == pytest.approx(expected)
    write_collection(tmp_path / "x.jsonl", [result()])
    (_, alone), *_ = read_results(tmp_path / "x.jsonl").iterrows()
    assert np.isnan(area_under_curve(alone))


def test_every_format_holds_the_same_numbers(table):
    answer = of_models(compare_models(table, ["mine.Model", "gru", "lru"]))
    rows = list(csv.DictReader(io.StringIO(answer.text("csv"))))
    assert len(rows) == 9 + 3
    row = next(row for row in rows if (row["cell"], row["model"]) == ("n_back-easy", "gru"))
    success = float(row["value"])
    assert success == pytest.approx(
        np.mean(table["success"][(table["task"] == "n_back") & (table["controller"] == "gru")])
    )
    markdown, latex = answer.text("markdown"), answer.text("latex")
    assert f"| {success:.3f} ±" in markdown
    assert rf"{success:.3f} $\pm$" in latex
    assert r"mine.Model & delayed\_cue" not in latex
    assert r"delayed\_cue-easy" in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == len(answer.grids)
    plain = json.loads(answer.text("json"))
    assert len(plain["cells"]) == 9
    assert plain["first"] == "mine.Model"
    assert not re.search(r"(?<![\\$])_", "".join(line for line in latex.splitlines() if not line.startswith("%")))


@pytest.mark.parametrize("name", ["gym:$x_{y}$-v0", "a%b&c#d", "=1+1", "a|b", "a*b*`c`", "_A_[x](y)<z>~~&lt;\\"])
def test_odd_names_are_shown_as_they_are(name, tmp_path):
    runs = [result(model, s, 0.5 + s / 10, task=name) for model in ("a.A", "gru") for s in range(3)]
    (tmp_path / "x.json").write_text(json.dumps(runs))
    found = compare_models(read_results(tmp_path / "x.json"), ["a.A", "gru"])
    figure = comparison_figure(found)
    figure.savefig(tmp_path / "x.png")  # TeX that is none would raise
    answer = of_models(found)
    page = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).render(answer.text("markdown"))
    assert f"<td>{html.escape(name)}-easy</td>" in page
    rows = list(csv.DictReader(io.StringIO(answer.text("csv"))))
    assert rows[0]["task"] == ("'=1+1" if name == "=1+1" else name)
    assert "tabular" in answer.text("latex")


def test_the_command_prints_draws_and_ends_with_status_0(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = "compare --models mine.Model,gru --results runs --plot figure.png --out all.json"
    assert main(line.split()) == 0  # although it is worse somewhere: a comparison is no test of a change
    said = capsys.readouterr().out
    for text in (
        "The models",
        "Final success",
        "Steps to the target",
        "Area under",
        "P(mine.Model is better)",
        "worse",
    ):
        assert text in said
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "all.json").read_text())["confidence"] == 0.95


def test_without_results_ones_own_runs_are_beside_published_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    budget = {"steps": 149913600, "ppo": {}, "task_args": {"num_pairs": 4, "keys": 24, "values": 8, "jitter": 0}}
    write_runs(tmp_path / "runs", [result("mine.Model", 0, 0.99, task="assoc_recall", config=budget)])
    assert main(["compare", "--models", "mine.Model,gru", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    published = read_results("reference_v2").query(
        "task == 'assoc_recall' and difficulty == 'easy' and controller == 'gru' and objective == 'ppo'"
    )
    mine, theirs = (row for row in cells if row["cell"] == "assoc_recall-easy")
    assert (mine["model"], mine["value"]) == ("mine.Model", 0.99)
    assert (theirs["model"], theirs["seeds"]) == ("gru", len(published))
    assert theirs["value"] == pytest.approx(published["success"].mean())


def test_a_folder_without_a_finished_run_is_as_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "begun").mkdir(parents=True)
    assert main(["compare", "--models", "gru,lru", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"]


def test_several_results_are_taken_together_and_a_seed_counts_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "a", [result("gru", s, 0.9) for s in range(3)])
    write_runs(tmp_path / "b", [result("lru", s, 0.9) for s in range(3)])
    assert len(read_results("a", "b")) == 6
    assert len(read_results("a", "a/delayed_cue-easy")) == 3  # the same folders, by another way
    assert main(["compare", "--models", "gru,lru", "--results", "a", "--results", "b"]) == 0
    assert main(["report", "--results", "a", "--results", "b", "--out", "page", "--collect", "all.jsonl"]) == 0
    assert len(read_results("all.jsonl")) == 6
    write_runs(tmp_path / "c", [result("gru", 1, 0.5)])
    capsys.readouterr()
    assert main(["compare", "--results", "a", "--results", "c"]) == 2
    said = capsys.readouterr().err
    assert "gru, 20000 steps seed 1 is there more than once" in said
    assert "a/delayed_cue-easy/gru/run1 and in c/delayed_cue-easy/gru/run0" in said


MISTAKES = {
    "--models gru --results a": "name two or more different models",
    "--models gru,gru --results a": "name two or more different models",
    "--models gru, --results a": "name two or more different models",
    "--models gru,lur --results a": "no runs of the model 'lur'; did you mean: lru",
    "--models gru,lru --results a --baseline a": "leave --baseline out",
    "--plot x.png --results a": "--plot draws a comparison of models",
    "--models gru,lru --results a --plot x.nothing": "--plot x.nothing: name a file that ends in one of",
    "--models gru,lru --results a --plot told.jsonl/x.png": "cannot write --plot told.jsonl/x.png",
    "--models gru,lru --results a --format pdf": "invalid choice: 'pdf'",
    "--models gru,mamba --results a": "gru shares no cell",
    "--models gru,lru --results told.jsonl": "these results hold ceilings alone",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [result(model, s, 0.9) for model in ("gru", "lru") for s in range(2)]
    write_runs(tmp_path / "a", [*runs, result("mamba", 0, 0.9, task="n_back")])
    write_collection(tmp_path / "told.jsonl", [one | {"objective": "supervised"} for one in runs])
    assert main(["compare", *line.split()]) == 2
    said = capsys.readouterr().err
    assert MISTAKES[line] in said
    assert len(said.splitlines()) == 1


def test_what_is_missing_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "own", [result("gru", s) for s in range(2)])
    many = [result(f"m{at}.M", s) for at in range(40) for s in range(2)] + [result("gru", s) for s in range(2)]
    write_runs(tmp_path / "base", many)
    assert main(["compare", "--results", "own", "--baseline", "base"]) == 0
    said = capsys.readouterr().out
    assert len([line for line in said.splitlines() if "m39.M" in line or "m0.M" in line]) <= 1
    assert "missing: 40 cells of the baseline: delayed_cue-easy m0.M; " in said
    assert "and 36 more" in said
    assert main(["report", "--results", "own", "--baseline", "base", "--out", "page"]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<p>missing: 40 cells of the baseline: delayed_cue-easy m0.M; " in page
    assert "m39.M" not in page


def test_a_small_chance_is_the_same_sign_in_latex_and_markdown():
    """``<`` alone is an inverted exclamation mark in LaTeX's first encoding, and begins a tag in Markdown."""
    grid = Grid("differences", ["cell", "p"], [["n_back", "<0.0001"]])
    assert "$<$0.0001" in as_latex(grid)
    assert r"| n_back | \<0.0001 |" in as_markdown(grid)
