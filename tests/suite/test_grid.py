"""A suite's YAML becomes its runs, with the settings in the order of precedence."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packages import skip_without_packages

from memsuite.errors import UsageError
from memsuite.suite.grid import IDENTITY, KEYS, choose, flatten, read_suite

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "configs" / "suites").glob("*.yaml"))
SIZES = {
    "compare_v2": 45,
    "tiny_sanity": 1,
    "basic_v1": 12,
    "reference_v1": 575,
    "reference_v2": 1760,
    "ceilings_v2": 68,
    "recipe_v2": 165,
    "to_target_v2": 96,
    "products_v1": 28,
    "popgym_v1": 168,
    "longest_v2": 28,
    "contamination_v2": 110,
    "t_maze_v2": 15,
    "zoo_v1": 81,
    "recipe_v1": 115,
    "controls_v1": 90,
    "controls_second_v1": 80,
    "controls_window_v2": 160,
    "horizons_v1": 85,
    "beyond_v1": 75,
    "easy_v1": 440,
    "medium_v1": 440,
    "hard_v1": 440,
    "extreme_v1": 440,
    "second_easy_v1": 891,
    "second_medium_v1": 648,
    "second_hard_v1": 648,
    "second_extreme_v1": 648,
    "map_v2": 160,
    "pendulum_v1": 5,
}


@pytest.fixture
def read(tmp_path):
    def call(text: str) -> list:
        (tmp_path / "s.yaml").write_text(text)
        return read_suite(tmp_path / "s.yaml").runs

    return call


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_the_suites_of_the_project(path):
    skip_without_packages(path)
    suite = read_suite(path)
    assert len(suite.runs) == SIZES[path.stem]
    assert suite.folder == Path("runs") / path.stem


def test_the_four_difficulties_hold_each_task_with_each_controller():
    """The names in the suites; a task or controller that is added later belongs in a later version of a suite."""
    from memsuite.controllers import CONTROLLERS
    from memsuite.tasks import TASKS

    named = set()
    for difficulty in ("easy", "medium", "hard", "extreme"):
        runs = read_suite(ROOT / "configs" / "suites" / f"{difficulty}_v1.yaml").runs
        cells = {(run.settings["task"], run.settings["controller"], run.settings["seed"]) for run in runs}
        tasks, controllers = (frozenset(cell[part] for cell in cells) for part in (0, 1))
        assert cells == {(task, name, seed) for task in tasks for name in controllers for seed in range(5)}
        assert tasks <= set(TASKS)
        assert controllers <= set(CONTROLLERS)
        assert all(run.settings["difficulty"] == difficulty for run in runs)
        named.add((tasks, controllers))
    ((tasks, controllers),) = named
    assert (len(tasks), len(controllers)) == (8, 11)


def test_a_run_is_a_plain_command_line_with_a_readable_id(read):
    (run,) = read("settings: {controller_args: {hidden_dim: 64}}\nentries: [{task: n_back, steps: 5000}]")
    assert run.id == "n_back-medium/gru/seed0"
    assert run.command == (
        "memsuite fit --task n_back --controller_args.hidden_dim 64 --steps 5000 "
        "--out runs/s/n_back-medium/gru/seed0 --ckpt_path last"
    )


def test_axes_multiply_and_mark_the_id(read):
    runs = read("grid: {controller_args.hidden_dim: [32, 64], seed: [0, 1], model: {ppo: {critic: [memory]}}}")
    ids = ["gru-hidden_dim32-critic_memory", "gru-hidden_dim64-critic_memory"]
    assert [run.id for run in runs] == [f"delayed_cue-medium/{each}/seed{seed}" for each in ids for seed in (0, 1)]
    assert runs[0].settings["model.ppo.critic"] == "memory"


def test_a_value_in_any_spelling_reaches_the_command_line(read):
    values = {"a": None, "b": True, "c": [1, 2], "d": {"x": 1}, "e": -1, "f": 1e-5, "g": "text"}
    (run,) = read(yaml.safe_dump({"settings": {f"trainer.{name}": value for name, value in values.items()}}))
    line = "--trainer.a null --trainer.b true --trainer.c '[1, 2]' --trainer.d '{\"x\": 1}' --trainer.e=-1"
    assert f"{line} --trainer.f 1e-05 --trainer.g text" in run.command


STRENGTH = """
config: base.yaml
settings: {num_envs: 2, steps: 2, horizon: 2, difficulty: easy}
grid: {steps: [3], horizon: [3], seed: [3], difficulty: [hard]}
entries: [{horizon: 40, seed: 4, grid: {seed: [5], difficulty: [medium]}}]
overrides: [{when: {seed: 5}, settings: {difficulty: extreme}}]
"""


def test_the_nearer_setting_wins(read, tmp_path):
    (tmp_path / "base.yaml").write_text("num_envs: 1\nmodel: {ppo: {epochs: 1}}\n")
    (run,) = read(STRENGTH)
    assert run.settings == {"num_envs": 2, "steps": 3, "horizon": 40, "seed": 5, "difficulty": "extreme"}
    assert run.asked == {**run.settings, "model.ppo.epochs": 1}
    assert run.configs == (str(tmp_path / "base.yaml"),)


def test_a_mapping_on_an_axis_is_stronger_than_the_settings_of_the_suite(read):
    (run,) = read(
        "settings: {controller_args.hidden_dim: 4, controller_args.gain: 2}\n"
        "grid: {controller_args: [{hidden_dim: 64}]}"
    )
    assert (run.settings["controller_args.hidden_dim"], run.settings["controller_args.gain"]) == (64, 2)


def test_overrides_and_exclusions_choose_by_value_or_list(read):
    runs = read("""
grid: {controller: [gru, lstm, mamba], seed: [0, 1]}
overrides: [{when: {controller: [lstm, mamba], seed: 1}, settings: {num_envs: 8}}]
exclude: [{controller: gru, seed: 1}]
""")
    changed = {run.id.removeprefix("delayed_cue-medium/"): run.settings.get("num_envs") for run in runs}
    assert changed == {"gru/seed0": None, "lstm/seed0": None, "lstm/seed1": 8, "mamba/seed0": None, "mamba/seed1": 8}


def test_names_tell_entries_apart(read):
    text = "entries: [{seed: 1, num_envs: 4, name: narrow}, {seed: 1, num_envs: 8, name: wide}]"
    assert [run.id.split("/")[1] for run in read(text)] == ["gru-narrow", "gru-wide"]
    with pytest.raises(UsageError, match="two runs have the id delayed_cue-medium/gru/seed1"):
        read(text.replace(", name: narrow", "").replace(", name: wide", ""))


def test_only_takes_a_run_or_all_below_a_part_of_its_id(read):
    runs = read("grid: {controller: [gru, mamba, mamba2], seed: [1, 11]}")
    assert [run.id[-10:] for run in choose(runs, ["delayed_cue-medium/mamba"])] == ["amba/seed1", "mba/seed11"]
    assert len(choose(runs, ["delayed_cue-medium/gru/seed1", "delayed_cue-medium/mamba2/"])) == 3
    with pytest.raises(UsageError, match=r"the nearest: delayed_cue-medium/mamba/seed1, "):
        choose(runs, ["delayed_cue-medum/mamba/seed1"])


LEAVES = (
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats() | st.sampled_from(["gru", "task", "", "../x", "0"])
)
NAMES = (
    st.sampled_from([*KEYS, *IDENTITY, "when", "model", "ppo", "out", "steps", "x.y", "", "task_args"]) | st.integers()
)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, min_size=1, max_size=4))
def test_any_content_is_runs_or_one_line(read, content):
    try:
        runs = read(yaml.safe_dump(content))
    except UsageError as error:
        runs, said = None, str(error)
    if runs is None:
        assert "\n" not in said
        return
    assert runs
    assert len({run.id for run in runs}) == len(runs)
    for run in runs:
        assert Path("runs") in run.folder.parents
        assert ".." not in run.folder.parts
        assert run.command.startswith("memsuite fit ")


def test_only_the_known_groups_are_written_with_dots():
    nested = {"task_args": {"mask": [1]}, "trainer": {"logger": {"class_path": "A"}}, "model": {"ppo": {"clip": 1}}}
    flat = {"task_args.mask": [1], "trainer.logger": {"class_path": "A"}, "model.ppo.clip": 1}
    assert flatten(nested) == flat
