"""The settings of a run: declared once, spelt in two ways, stored with every default filled in."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import yaml

from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.runs import PPOConfig, RunConfig, lift
from memsuite.runs.config import NAMES, lift_dotted
from memsuite.runs.kinds import check_settings
from memsuite.suite.grid import flatten


def printed(line, capsys):
    with pytest.raises(SystemExit):
        main(f"fit {line} --print_config".split())
    return yaml.safe_load(capsys.readouterr().out)


def test_the_command_line_takes_every_setting_with_the_declared_default(capsys):
    found, declared = printed("", capsys), RunConfig().plain()
    assert found["model"]["ppo"] == declared.pop("ppo")
    assert {name: found[name] for name in NAMES} == declared


def test_settings_under_model_mean_those_at_the_top(tmp_path, capsys):
    file = tmp_path / "a.yaml"
    file.write_text("model: {task: copy_memory, seed: 5, ppo: {epochs: 1}, controller_args: {hidden_dim: 8}}\n")
    found = printed(f"--config {file} --model.horizon 77 --model.controller_args.depth 2 --model.num_envs=9", capsys)
    assert (found["task"], found["seed"], found["horizon"], found["num_envs"]) == ("copy_memory", 5, 77, 9)
    names = {"task", "seed", "horizon", "num_envs", "controller_args"}  # as they were written, they are printed
    assert found["model"] == {"ppo": found["model"]["ppo"], **{name: found[name] for name in names}}
    assert found["model"]["ppo"]["epochs"] == 1
    assert found["controller_args"] == {"hidden_dim": 8, "depth": 2}
    assert printed(f"--config={file} --seed 7", capsys)["seed"] == 7


def test_two_spellings_that_disagree_are_refused(tmp_path, capsys):
    file = tmp_path / "a.yaml"
    file.write_text("task: n_back\nmodel: {task: copy_memory}\n")
    for line in (f"--config {file}", "--task n_back --model.task copy_memory"):
        assert main(f"fit {line} --out {tmp_path}/x".split()) == 2
        assert "task is 'n_back' and model.task is 'copy_memory'" in capsys.readouterr().err
    assert lift({"task": "n_back", "model": {"task": "n_back"}}) == {"task": "n_back"}
    with pytest.raises(UsageError, match="keep one"):
        lift_dotted({"seed": 1, "model.seed": 2})


def test_suites_spell_settings_the_same_two_ways():
    assert flatten({"model": {"horizon": 77, "ppo": {"epochs": 1}}}) == {"horizon": 77, "model.ppo.epochs": 1}
    assert flatten({"model.horizon": 77}) == {"horizon": 77}
    assert flatten({"model": {"controller_args": {"depth": 2}}}) == {"controller_args.depth": 2}


@pytest.mark.parametrize("controller", ["gru", "lru", "gated_deltanet"])
def test_a_module_is_built_again_from_what_it_stores(controller):
    module = MemoryPPO(task="n_back", difficulty="easy", controller=controller, seed=3)
    again = MemoryPPO(RunConfig.from_plain(module.config.plain()))
    assert again.config == module.config
    assert all((a == b).all() for a, b in zip(module.parameters(), again.parameters(), strict=True))
    open_yet = {name for name, value in module.config.plain().items() if value is None}
    assert open_yet == {"init_from"}
    assert (module.config.task_args, module.config.horizon) == ({"n": 2, "symbols": 8, "gap": 0}, 100)


def test_a_default_that_changes_does_not_change_what_was_stored(monkeypatch):
    stored = MemoryPPO(task="n_back", difficulty="easy").config.plain()
    monkeypatch.setattr(
        PPOConfig.__init__,
        "__defaults__",
        tuple(9 if one.name == "epochs" else one.default for one in fields(PPOConfig)),
    )
    assert MemoryPPO(task="n_back", difficulty="easy").config.ppo.epochs == 9
    assert MemoryPPO(RunConfig.from_plain(stored)).config.ppo.epochs == stored["ppo"]["epochs"]


def test_settings_are_not_changed_in_place():
    config = RunConfig(seed=1)
    with pytest.raises(AttributeError):
        config.seed = 2
    assert replace(config, seed=2).seed == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tsak": "n_back"}, "did you mean: task"),
        ({"ppo": {"epoch": 1}}, "did you mean: ppo.epochs"),
        ({"seed": -1}, "seed is -1"),
        ({"num_envs": 0}, "the least is 1"),
    ],
)
def test_mistakes_are_named(content, message):
    with pytest.raises(UsageError, match=message):
        RunConfig.from_plain(content)
    if "ppo" not in content:
        with pytest.raises(UsageError, match=message):
            MemoryPPO(**content)


def test_what_no_file_can_hold_is_refused():
    with pytest.raises(UsageError, match="not a plain value"):
        RunConfig(controller_args={"x": object()}).plain()


def test_numbers_of_other_libraries_are_what_they_stand_for(tmp_path):
    given = {"steps": 1e4, "seed": np.int64(3), "num_envs": 64.0, "horizon": np.int32(12), "init_from": tmp_path / "x"}
    config = RunConfig(**given, ppo=PPOConfig(epochs=np.int64(2), draws=4.0, clip=np.float64(0.25), learning_rate=1))
    plain = RunConfig.from_plain(config.plain())
    assert plain == config
    assert {name: plain[name] for name in given} == {**given, "init_from": str(tmp_path / "x")}
    assert [type(plain[name]) for name in given] == [int, int, int, int, str]
    ppo = plain.ppo
    assert [ppo.epochs, ppo.draws, ppo.clip, ppo.learning_rate] == [2, 4, 0.25, 1]
    assert [*map(type, (ppo.epochs, ppo.draws, ppo.clip))] == [int, int, float]


def test_a_run_whose_steps_were_typed_as_a_float_can_be_read_again(tmp_path):
    module = MemoryPPO(difficulty="easy", horizon=10, num_envs=8, steps=1.6e2, seed=1.0, evaluation_episodes=4.0)
    same = MemoryPPO(difficulty="easy", horizon=10, num_envs=8, steps=160, seed=1, evaluation_episodes=4)
    assert module.config == same.config
    assert all((a == b).all() for a, b in zip(module.parameters(), same.parameters(), strict=True))
    check_settings(module.config.plain())


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (RunConfig, "steps", 2000.5, "steps is 2000.5; it must be a whole number above 0 or nothing"),
        (RunConfig, "steps", "many", "steps is the text 'many'; it must be a whole number"),
        (RunConfig, "seed", True, "seed is True; it must be a whole number"),
        (RunConfig, "seed", None, "seed is null; it must be a whole number"),
        (RunConfig, "task_args", [1], "task_args is a list; it must be a mapping or nothing"),
        (RunConfig, "init_from", 3, "init_from is 3; it must be text or nothing"),
        (RunConfig, "ppo", {"epochs": 2}, "ppo is a dict; it must be a PPOConfig"),
        (RunConfig, "ppo", None, "ppo is a NoneType; it must be a PPOConfig"),
        (PPOConfig, "anneal", "no", "ppo.anneal is the text 'no'; it must be true or false"),
        (PPOConfig, "epochs", 2.5, "ppo.epochs is 2.5; it must be a whole number"),
        (PPOConfig, "clip", None, "ppo.clip is null; it must be a number"),
        (PPOConfig, "learning_rate", "0.1", "ppo.learning_rate is the text '0.1'; it must be a number"),
        (PPOConfig, "max_skipped_updates", True, "ppo.max_skipped_updates is True; it must be a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused_where_it_is_given(kind, name, value, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        kind(**{name: value})
