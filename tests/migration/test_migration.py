"""Published results after their migration: the same cells with the same numbers, whatever the current defaults are."""

import functools
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from migration.cells import cells_of

from memsuite.controllers import CONTROLLERS, GRU
from memsuite.runs import SCHEMA, PPOConfig
from memsuite.runs.collection import read_collection
from memsuite.runs.recipes import LATER, THE_SAME
from memsuite.tasks.registry import PRESETS

RESULTS = Path(__file__).parents[2] / "results"
BEFORE = json.loads(Path(__file__).with_name("cells.json").read_text())
# Runs of a commit whose entropy bonus was the same at every step. The first schema could not record this, and they were
# read as if the bonus had followed the advantages.
UNIFORM = ("cartpole_without_velocities", "popgym_repeat_previous")


def as_they_were_meant(name):
    """Return the cells from before the migration, with the one setting that was not recorded."""
    if name not in UNIFORM:
        return BEFORE[name]
    said = functools.partial(re.sub, r"(entropy_coefficient=[\d.]+, )", r"\1entropy_weighting=uniform, ")
    return {said(cell): own for cell, own in BEFORE[name].items()}


@pytest.mark.parametrize("name", BEFORE)
def test_every_cell_has_its_seeds_and_numbers_to_the_digit(name):
    assert cells_of(RESULTS / f"{name}.jsonl") == as_they_were_meant(name)


@pytest.mark.parametrize("name", BEFORE)
def test_every_default_is_filled_in(name):
    for run in read_collection(RESULTS / f"{name}.jsonl"):
        config = run["config"]
        assert run["schema"] == SCHEMA
        assert {"hidden_dim"} <= set(config["controller_args"])
        assert {one.name for one in fields(PPOConfig)} - set(config["ppo"]) <= {*THE_SAME, *LATER}
        gym = config["task"].startswith("gym:")
        open_yet = {key for key, value in config.items() if value is None}
        assert open_yet == ({"init_from", "horizon"} if gym and config["horizon"] is None else {"init_from"})
        assert gym or (run["random"], run["oracle"], run["steps_to_remember"]) > (0, 0, 0)


def wider_gru(monkeypatch):
    class Wider(GRU):
        def __init__(self, input_dim, hidden_dim=256, depth=3, gain=1.1, **kwargs):
            super().__init__(input_dim, hidden_dim, depth, **kwargs)

    monkeypatch.setitem(CONTROLLERS, "gru", Wider)


def other_ppo(monkeypatch):
    defaults = tuple(9 if one.name == "epochs" else one.default for one in fields(PPOConfig))
    monkeypatch.setattr(PPOConfig.__init__, "__defaults__", defaults)
    assert PPOConfig().epochs == 9


def other_presets(monkeypatch):
    for key, preset in list(PRESETS.items()):
        monkeypatch.setitem(PRESETS, key, replace(preset, horizon=7, args={}, discount=0.5, target_success=0.1))


@pytest.mark.parametrize("change", [wider_gru, other_ppo, other_presets], ids=lambda change: change.__name__)
def test_a_default_that_changes_moves_no_published_cell(change, monkeypatch):
    change(monkeypatch)
    for name in BEFORE:
        assert cells_of(RESULTS / f"{name}.jsonl") == as_they_were_meant(name)
