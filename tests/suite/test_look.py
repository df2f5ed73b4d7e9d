"""A look at a run from its settings alone says what building the run with its Trainer says, without Lightning."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packages import skip_without_packages

from memsuite.cli.suite_check import _size
from memsuite.errors import UsageError
from memsuite.launch.looking import Look
from memsuite.launch.trainer import quiet_lightning
from memsuite.suite.grid import flatten, read_suite

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "configs" / "suites").glob("*.yaml"))
FAULTS = [
    {"steps": "many"},
    {"steps": 10},
    {"seed": -1},
    {"seed": 1.5},
    {"horizon": 1},
    {"task": "delyed_cue"},
    {"controller": "mabma"},
    {"difficulty": "medum"},
    {"task_args": {"num_cue": 3}},
    {"controller_args": {"hidden_dmi": 3}},
    {"controller_args": 3},
    {"model": {"ppo": {"draws": "-1"}}},
    {"model": {"ppo": {"advantage": "gea"}}},
    {"num_envs": 100, "model": {"ppo": {"draws": 32}}},
    {"objective": "supervized"},
]


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


def with_settings(settings):
    run = read_suite(ROOT / "configs" / "suites" / "tiny_sanity.yaml").runs[0]
    return replace(run, settings=flatten(settings))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_look_sees_the_size_that_the_run_has(path):
    skip_without_packages(path)
    look = Look()
    runs = read_suite(path).runs
    some = [run for run in runs[:: max(1, len(runs) // 5)] if look.takes(run)]
    assert [look.size(run) for run in some] == [_size(run, False) for run in some]


def test_values_of_a_mapping_may_be_given_in_parts():
    look = Look()
    parts = {"task": "copy_memory", "task_args.seq_len": 3, "task_args.horizon": 40, "controller_args": {"depth": 2}}
    run = replace(with_settings({}), settings=parts)
    assert look.size(run) == _size(run, False)
    assert look.size(run).horizon == 40


@pytest.mark.parametrize("settings", FAULTS, ids=repr)
def test_a_look_refuses_in_the_words_of_the_run(settings):
    run = with_settings(settings)
    with pytest.raises(UsageError) as looked:
        Look().size(run)
    with pytest.raises(UsageError) as built:
        _size(run, False)
    assert str(looked.value) == str(built.value)


@pytest.mark.parametrize("settings", [{"trainer": {"max_epochs": 3}}, {"device": "cpu"}, {"nmu_envs": 4}], ids=repr)
def test_what_is_no_setting_of_a_run_is_left_to_the_run(settings):
    assert not Look().takes(with_settings(settings))


def test_a_dry_run_imports_no_lightning():
    suite = ROOT / "configs" / "suites" / "reference_v2.yaml"
    code = (
        f"import sys; from memsuite.__main__ import main; status = main(['suite', {str(suite)!r}, '--dry_run'])\n"
        "print(status, [name for name in ('lightning', 'torchmetrics', 'torch._dynamo') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "0 []"
