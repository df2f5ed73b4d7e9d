"""The settings of a run: declared once, spelt in two ways, stored with every default filled in."""

from dataclasses import fields, replace

import pytest
import yaml

from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.runs import PPOConfig, RunConfig, lift
from memsuite.runs.config import NAMES, lift_dotted
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
