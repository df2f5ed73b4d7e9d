"""The figures show the numbers of the probes."""

import numpy as np
import pytest
import torch

from memsuite.analysis import probe_plots, probes
from memsuite.analysis.plots import pyplot
from memsuite.controllers import make_controller
from memsuite.errors import UsageError
from memsuite.tasks import make_task

from .planted import Planted


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot().close("all")


@pytest.fixture(scope="module")
def task():
    return make_task("delayed_cue", "easy", horizon=12)


@pytest.fixture(scope="module")
def found(task):
    return probes.decode(Planted(task.observation_dim), task, episodes=60, reader=probes.Reader(shuffles=3))


def line(axes, name):
    (one,) = [drawn for drawn in axes.lines if drawn.get_label() == name]
    return np.asarray(one.get_ydata(), dtype=float)


def test_decoding_is_drawn_above_its_chance(found):
    (axes,) = probe_plots.decoding_curves({"a": found, "b": found}, "title").axes
    assert np.array_equal(line(axes, "a"), found.accuracy.numpy())
    (band,) = axes.collections
    top = band.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(float(found.shuffled_high.max()))
    assert axes.get_title(loc="left") == "title"


def test_the_strongest_units_are_on_top(found):
    axes, _ = probe_plots.unit_map(found).axes
    values = axes.collections[0].get_array().reshape(-1, len(found.steps))
    assert values.max() == 1
    assert (values[:4, 1:] > 0.5).all()  # the four planted units
    assert (np.diff(values.mean(1)) <= 1e-12).all()


def test_drift_has_three_panels(task):
    gru = make_controller("gru", input_dim=task.observation_dim, hidden_dim=8)
    drift = probes.drift(gru, probes.cue_then_blanks(gru, 9))
    panels = probe_plots.drift_curves({"gru": drift}).axes
    assert np.allclose(line(panels[0], "gru"), drift.norm.quantile(0.5, dim=1))
    assert np.allclose(line(panels[1], "gru"), drift.speed[1:].quantile(0.5, dim=1))
    assert np.allclose(line(panels[2], "gru"), drift.cosine.quantile(0.5, dim=1))


def test_reach_is_relative_and_leaves_out_what_is_zero():
    (axes,) = probe_plots.reach_curves({"x": torch.tensor([0.0, 1.0, 4.0])}).axes
    drawn = line(axes, "x")
    assert np.isnan(drawn[0])
    assert drawn[1:].tolist() == [0.25, 1.0]


def test_a_decay_is_drawn_as_the_steps_it_holds_for():
    decay = torch.full((5, 2, 3), 0.9)
    panels = probe_plots.gate_bands({"update": torch.full((5, 2, 3), 0.3), "decay": decay}).axes
    assert np.allclose(panels[0].lines[0].get_ydata(), 0.3)
    assert np.allclose(panels[1].lines[0].get_ydata(), -1 / np.log(0.9), rtol=1e-5)


def test_attention_is_drawn_a_panel_a_head():
    weights = torch.rand(3, 6, 6).tril()
    panels = probe_plots.attention_maps(weights).axes[:3]
    for head, panel in enumerate(panels):
        assert np.allclose(panel.images[0].get_array(), weights[head].clamp(min=1e-3))
    with pytest.raises(UsageError, match="heads, queries, keys"):
        probe_plots.attention_maps(weights[0])
