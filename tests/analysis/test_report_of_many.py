"""A report of many runs: legends are whole, ranks are fair, the summary is short, and it does not take long."""

import re
import time

import numpy as np
import pytest

from memsuite.__main__ import main
from memsuite.analysis import plots
from memsuite.analysis.curves import read_curves
from memsuite.analysis.plots.canvas import broken, legend_below, pyplot
from memsuite.analysis.results import models_of, read_results
from memsuite.runs.collection import write_collection

from .made import result, write_runs

LONG = {"a_setting_of_a_very_long_name": "and_a_value_that_is_long_too", "hidden_dim": 96, "another_setting": 123456789}
NONE = dict.fromkeys(["success", "success_low", "success_high", "score", "chance", "target_success"])


def of(model, tasks, seeds=3, **more):
    random = np.random.default_rng(len(model))
    return [result(model, s, float(random.uniform(0.3, 1)), task=task, **more) for task in tasks for s in range(seeds)]


def is_whole(figure):
    """Tell whether the legend of a figure lies within it, and beside no panel."""
    figure.canvas.draw()
    (legend,) = figure.legends
    place, page = legend.get_window_extent(), figure.bbox
    inside = place.x0 >= page.x0 and place.x1 <= page.x1 and place.y0 >= page.y0 and place.y1 <= page.y1
    return inside and all(not place.overlaps(axes.get_tightbbox()) for axes in figure.axes)


@pytest.mark.parametrize("length", [3, 30, 120, 400])
@pytest.mark.parametrize("count", [1, 4, 14])
def test_a_legend_is_whole_at_any_length(length, count):
    figure, axes = pyplot().subplots(figsize=(6.6, 3.8), layout="constrained")
    words = " ".join(["settings"] * 60)
    handles = {f"{at} {words}"[:length] + str(at): axes.plot([0, 1], [0, at])[0] for at in range(count)}
    legend_below(figure, handles)
    assert is_whole(figure)
    (legend,) = figure.legends
    told = {re.sub(r"\s", "", text.get_text()) for text in legend.get_texts()}
    assert told == {re.sub(r"\s", "", name) for name in handles}


def test_the_legends_of_the_figures_are_whole(tmp_path):
    runs = of("gru", ("delayed_cue", "n_back")) + of("lru", ("delayed_cue", "n_back"))
    config = {"steps": 20000, "ppo": {}, "controller_args": LONG}
    runs += of("my_module.AModelWithAVeryLongNameIndeed", ("delayed_cue", "n_back"), config=config)
    table = read_results(write_runs(tmp_path, runs))
    for figure in (plots.learning_curves(table, read_curves(table)), plots.profiles(table), plots.cost(table)):
        assert is_whole(figure)


def test_a_single_model_has_marks_on_both_axes_of_its_cost(tmp_path):
    figure = plots.cost(read_results(write_runs(tmp_path, [result()], curve=False)))
    figure.canvas.draw()
    (axes,) = figure.axes
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        assert sum(low <= place <= high for place in axis.get_majorticklocs()) >= 2


def test_a_curve_of_one_evaluation_is_seen(tmp_path):
    folder = write_runs(tmp_path, [result()])
    for file in folder.rglob("metrics.csv"):
        file.write_text("env_steps,success,evaluation_success\n20000,0.2,0.9\n")
    table = read_results(folder)
    line = plots.learning_curves(table, read_curves(table)).axes[0].lines[0]
    assert (len(line.get_xdata()), line.get_marker()) == (1, "o")


def test_cells_of_one_task_are_named_once(tmp_path):
    budgets = ({"steps": steps, "ppo": {}} for steps in (20000, 30000))
    figure = plots.profiles(read_results(write_runs(tmp_path, [result(config=config) for config in budgets])))
    assert figure.axes[0].get_title() == "delayed_cue-easy (2 cells)"


def test_names_of_many_settings_stand_apart(tmp_path):
    runs = [result(config={"steps": 20000, "ppo": {}, "controller_args": LONG | {"seed": at}}) for at in range(3)]
    figure = plots.solved_map(read_results(write_runs(tmp_path, runs, curve=False)))
    figure.canvas.draw()
    labels = figure.axes[0].get_xticklabels()
    lines, inches = labels[0].get_text().count("\n") + 1, figure.axes[0].get_window_extent().width / figure.dpi
    assert inches / len(labels) > 0.2 * lines  # across, a line that slants by 45 degrees takes this much


@pytest.mark.parametrize("name", ["gym:minigrid_one_hot:MiniGrid-MemoryS7-OneHot-v0-medium", "a" * 90, "delayed_cue"])
def test_a_long_name_is_broken_and_stays_whole(name):
    lines = broken(name, 28).split("\n")
    assert "".join(lines) == name
    assert max(map(len, lines)) <= 28


def test_the_panels_of_a_long_name_are_whole(tmp_path):
    task = "gym:my_environments_with_a_long_name:Some-Environment-With-A-Long-Name-v0"
    table = read_results(write_runs(tmp_path, of("gru", (task,)) + of("lru", (task,))))
    for figure in (plots.learning_curves(table, read_curves(table)), plots.solved_map(table)):
        figure.canvas.draw()
        (axes, *_), page = figure.axes, figure.bbox
        for text in (axes.title, *axes.get_yticklabels()):
            place = text.get_window_extent()
            assert place.x0 >= page.x0
            assert place.x1 <= page.x1
        assert axes.get_window_extent().width > 50


def test_only_models_that_ran_the_same_cells_are_ranked(tmp_path):
    runs = of("gru", ("delayed_cue", "n_back")) + of("lru", ("delayed_cue", "n_back")) + of("lstm", ("delayed_cue",))
    table = read_results(write_runs(tmp_path, runs, curve=False))
    groups = [sorted(name.partition(",")[0] for name in models) for models in plots.results._scores(table).values()]
    assert groups == [["gru", "lru"], ["lstm"]]
    (axes,) = plots.aggregate_scores(table).axes
    names = [text.get_text().partition(",")[0] for text in axes.get_yticklabels()]
    assert names[2:] == ["lstm"]
    assert [text.get_text() for text in axes.texts] == ["over delayed_cue-easy, n_back-easy:", "over delayed_cue-easy:"]
    assert [axes.get_title() for axes in plots.profiles(table).axes] == [
        "delayed_cue-easy, n_back-easy",
        "delayed_cue-easy",
    ]
    assert "100 parameters, state 128" in axes.get_yticklabels()[0].get_text()


def test_a_width_that_differs_between_tasks_makes_no_other_model(tmp_path):
    def wide(task, width, model="gru"):
        config = {"steps": 20000, "ppo": {}, "controller_args": {"hidden_dim": width}}
        return of(model, [task], config=config)

    table = read_results(write_runs(tmp_path / "a", wide("delayed_cue", 60) + wide("n_back", 64), curve=False))
    assert set(models_of(table)) == {"gru"}
    table = read_results(write_runs(tmp_path / "b", wide("n_back", 60) + wide("n_back", 64), curve=False))
    assert set(models_of(table)) == {"gru (hidden_dim=60)", "gru (hidden_dim=64)"}


def test_returns_are_shown_where_no_decision_is_scored(tmp_path):
    runs = []
    for seed in range(3):
        returns = {"return_mean": 400.0 + seed, "return_low": 399.0 + seed, "return_high": 401.0 + seed}
        runs.append(result("gru", seed, task="gym:CartPole-v1", reached_target=False) | NONE | returns)
    folder = write_runs(tmp_path / "runs", runs, curve=False)
    for path in folder.rglob("run*"):
        rows = [f"{steps},,,{steps / 100}" for steps in (5000, 20000)]
        header = "env_steps,success,evaluation_success,evaluation_return_mean"
        (path / "metrics.csv").write_text("\n".join([header, *rows]))
    assert main(["report", "--results", str(folder), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert 'type="button">return<' in page
    assert page.count("<td>401.0</td>") == 2  # the cell, and the run of seed 1; intervals are 2 wide and more
    table = read_results(folder)
    (panel,) = plots.learning_curves(table, read_curves(table)).axes
    assert panel.get_title() == "gym:CartPole-v1-easy: return"
    assert panel.lines[0].get_ydata().tolist() == [50.0, 200.0]
    (heat,) = plots.solved_map(table).axes
    assert [text.get_text() for text in heat.texts] == ["return 401"]


def test_a_thousand_runs_have_a_short_summary_and_do_not_take_long(tmp_path):
    tiers, tasks = (
        ("easy", "medium", "hard", "extreme"),
        ("delayed_cue", "copy_memory", "assoc_recall", "n_back", "x.Y"),
    )
    models = ("gru", "lru", "lstm", "mamba", "mamba2", "mlstm", "mingru", "transformer", "pseudo_mamba", "my.Model")
    runs = [one for model in models for tier in tiers for one in of(model, tasks, 5, difficulty=tier)]
    write_collection(tmp_path / "all.jsonl", runs)
    begin = time.process_time()
    assert main(["report", "--results", str(tmp_path / "all.jsonl"), "--out", str(tmp_path / "page")]) == 0
    assert time.process_time() - begin < 40  # it takes about ten; the limit is wide, as the machine may be busy
    page = (tmp_path / "page" / "index.html").read_text()
    summary = page[page.index('<h2 id="summary">') :].partition("</table>")[0]
    assert summary.count("<tr") == 1 + len(models)
    assert re.search(r"<td>my\.Model</td>\s*<td>100</td>\s*<td>128</td>\s*<td>20</td>\s*<td>100</td>", summary)
