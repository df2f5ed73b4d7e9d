"""What pictures and tables tell apart, and what they do not leave out."""

import io

import matplotlib as mpl
import pytest

from memsuite.analysis.layout import Grid, for_terminal
from memsuite.analysis.plots.beyond import success_beyond
from memsuite.analysis.plots.canvas import handles_of, legend_below, log_steps, pyplot
from memsuite.analysis.plots.contamination import contaminated
from memsuite.errors import UsageError
from memsuite.launch.plain import LoggedConsole

mpl.use("Agg")


def report(task="delayed_cue", seed=0, noise=0.0, success=1.0, chance=0.25, **arguments):
    rows = [
        {"horizon": at, "success": success, "success_low": success, "success_high": success, "chance": chance}
        for at in (50, 100)
    ]
    about = {"task": task, "difficulty": "easy", "controller": "gru", "controller_args": arguments, "seed": seed}
    return about | {
        "trained_horizon": 50,
        "task_args": {"noise": noise},
        "trained_task_args": {"noise": 0.0},
        "curriculum": None,
        "rows": rows,
    }


def names_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_name_that_begins_with_an_underscore_is_in_the_legend():
    plt = pyplot()
    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1], label="_draft.MyModel")
    axes.plot([0, 1], [1, 0], label="gru")
    axes.axhline(0.5)
    assert list(handles_of([axes])) == ["_draft.MyModel", "gru"]
    legend_below(figure, handles_of([axes]))
    assert [name.strip() for name in names_of(figure)] == ["_draft.MyModel", "gru"]
    plt.close(figure)


def test_models_of_other_settings_are_not_averaged_where_the_delay_is_not_blank():
    reports = [report(noise=noise, success=1.0) for noise in (0.0, 0.3)]
    reports += [report(noise=noise, success=0.2, gain=0.5) for noise in (0.0, 0.3)]
    figure = contaminated(reports)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == ["gru, 1 seed", "gru, gain 0.5, 1 seed"]
    drawn = [{line.get_ydata()[0] for line in panel.lines if line.get_marker() == "o"} for panel in figure.axes]
    assert drawn == [{1.0}, {0.2}]
    with pytest.raises(UsageError, match="draw fewer at once"):
        contaminated([report(noise=at / 100) for at in range(11)])
    pyplot().close(figure)


def test_runs_of_two_tasks_are_named_and_each_has_its_own_chance():
    figure = success_beyond([report(), report("copy_memory", chance=0.125), report(gain=0.5)])
    (axes,) = figure.axes
    assert axes.get_title() == "delayed_cue, easy; copy_memory, easy"
    names = names_of(figure)
    assert sum(name.startswith("gru") for name in names) == 3
    assert any("copy_memory" in name for name in names)
    levels = {float(line.get_ydata()[0]) for line in axes.lines}
    assert {0.25, 0.125} <= levels
    pyplot().close(figure)


@pytest.mark.parametrize("width", [30, 80, 500])
def test_numbers_of_a_table_are_never_cut(width):
    row = ["a-very-long-name-of-a-cell" * 3, "1.000 (0.991 to 1.000) *", "0.5"]
    grid = Grid("Final success", ["cell", "gru", "lru"], [row])
    out = io.StringIO()
    LoggedConsole(file=out, width=width, markup=False).print(for_terminal(grid))
    assert "1.000 (0.991 to 1.000) *" in out.getvalue()
    assert "…" not in out.getvalue()


@pytest.mark.parametrize(
    ("steps", "marks"),
    [
        ([50, 100, 200, 500], ["50", "100", "200", "500"]),
        ([50, 55, 100, 105, 150, 450], ["50", "100", "150", "450"]),
        ([1000, 1000], ["1,000"]),
    ],
)
def test_within_a_power_of_ten_the_marks_are_steps_that_were_measured(steps, marks):
    figure, axes = pyplot().subplots()
    axes.plot(steps, steps)
    log_steps(axes, steps)
    figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels()] == marks
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))


def test_beyond_a_power_of_ten_only_whole_powers_are_labelled():
    figure, axes = pyplot().subplots()
    axes.plot([50, 600], [0, 1])
    log_steps(axes, [50, 600])
    figure.canvas.draw()
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))
