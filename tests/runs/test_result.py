"""The record of a run: one schema; older records are read with their original meaning."""

import json
from dataclasses import fields

import pytest
import torch

from memsuite.analysis.results import read_results, variant
from memsuite.errors import UsageError
from memsuite.ops.build import cache, cuda
from memsuite.runs import SCHEMA, PPOConfig, RunResult
from memsuite.runs import recipes as kept
from memsuite.runs.provenance import kernels

RUN = {"task": "n_back", "difficulty": "easy", "controller": "gru", "seed": 0, "horizon": 100}
RUN |= {"success": 0.5, "success_low": 0.4, "success_high": 0.6}


def read(**more):
    return RunResult.read({**RUN, **more}, "x")


def test_a_record_of_before_is_completed_with_the_defaults_of_its_time():
    result = read(config={"steps": 1000, "controller_args": None, "task_args": None, "ppo": {"epochs": 2}})
    assert result.config["controller_args"]["hidden_dim"] == 128
    assert result.config["task_args"] == {"n": 2, "symbols": 8, "gap": 0}
    assert result.config["horizon"] == 100
    assert result.config["ppo"]["discount"] == 0
    assert variant(result) == ("v1", "epochs=2")


@pytest.mark.parametrize("name", ["hidden_dim", "depth"])
def test_a_changed_default_of_a_controller_moves_no_old_result(name, monkeypatch):
    before = variant(read(config={"steps": 1000}))
    from memsuite.controllers import CONTROLLERS, GRU

    class Wider(GRU):
        def __init__(self, input_dim, hidden_dim=256, depth=3, **kwargs):
            super().__init__(input_dim, hidden_dim, depth, **kwargs)

    monkeypatch.setitem(CONTROLLERS, "gru", Wider)
    assert variant(read(config={"steps": 1000})) == before
    changed = read(config={"steps": 1000, "controller_args": {name: 256 if name == "hidden_dim" else 3}})
    assert variant(changed) != before


def test_a_changed_default_of_ppo_moves_no_old_result(monkeypatch):
    before = variant(read(config={"steps": 1000}))
    defaults = tuple(9 if one.name == "epochs" else one.default for one in fields(PPOConfig))
    monkeypatch.setattr(PPOConfig.__init__, "__defaults__", defaults)
    assert PPOConfig().epochs == 9
    assert variant(read(config={"steps": 1000})) == before


def test_published_results_name_their_recipe(pytestconfig):
    table = read_results(pytestconfig.rootpath / "results" / "reference.jsonl")
    assert set(table["recipe"]) == {"v1"}
    assert set(table["variant"]) == {"", "depth=2"}


def test_todays_defaults_are_a_recipe_that_is_kept():
    """A changed default is a new file in memsuite/runs/recipe_files; the old files stay."""
    from runs.snapshot import snapshot

    assert snapshot() == kept.recipes()[list(kept.recipes())[-1]]


def test_a_record_of_a_later_version_is_refused():
    with pytest.raises(UsageError, match="later version"):
        read(schema=SCHEMA + 1)


def test_what_is_read_can_be_written_and_read_again():
    result = read(config={"steps": 1000}, score=float("nan"))
    text = json.dumps(result.as_dict(), allow_nan=False)
    again = RunResult.read(json.loads(text), "x")
    assert again.config == result.config
    assert again.score is None


@pytest.mark.parametrize("library", [None, "cuda.so"])
def test_a_run_on_a_gpu_tells_whether_its_kernels_ran(library, monkeypatch):
    """What a run on a CPU tells is what it was."""
    monkeypatch.setattr(cuda, "STATUS", cache.Status(library, "of a test"))
    assert set(kernels(torch.device("cpu"))) == set(kernels()) == {"compiled", "level"}
    assert kernels(torch.device("cuda", 0)) == kernels() | {"cuda": library is not None}
