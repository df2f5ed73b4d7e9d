"""Crafted checkpoints: each ends in one line that names what is wrong, quickly, and nothing is computed from them."""

import copy
import time
import zipfile

import pytest
import torch

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.runs.folder import CHECKPOINTS, LAST
from memsuite.storage import AtomicCheckpointIO

SMALL = "--task delayed_cue --difficulty easy --horizon 10 --num_envs 8 --device cpu --evaluation_episodes 8"
SMALL += " --controller_args.hidden_dim 4"
ACTOR = "model.actor.weight"
RECURRENT = "model.controller.blocks.0.layer.weight_hh"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crafted")
    assert main(["fit", *SMALL.split(), "--steps", "160", "--out", str(folder)]) == 0
    return torch.load(folder / CHECKPOINTS / LAST, weights_only=True)


@pytest.fixture
def refused(saved, tmp_path, monkeypatch, capsys):
    """A function that changes the checkpoint and gives commands, which must be refused in one line with the words."""
    monkeypatch.chdir(tmp_path)

    def call(change, words: str, *lines: str) -> None:
        content = copy.deepcopy(saved)
        change(content)
        torch.save(content, "c.ckpt")
        for line in lines or ("test --ckpt_path c.ckpt", "fit --ckpt_path c.ckpt --out new --steps 240"):
            began = time.perf_counter()
            status = main(line.split())
            said = capsys.readouterr().err
            assert status == 2, said
            assert len(said.splitlines()) == 1, said
            assert words in said
            assert "c.ckpt" in said
            assert time.perf_counter() - began < 4.0
            assert not (tmp_path / "new").exists()

    return call


def weight(value, name=ACTOR):
    return lambda content: content["state_dict"].update({name: value})


def without_numbers(content) -> None:
    """A large network around a small file: its largest weight is one number, shown many times."""
    content["memsuite"]["config"]["controller_args"]["hidden_dim"] = 20_000
    content["state_dict"][RECURRENT] = torch.zeros(1).expand(60_000, 20_000)


def cycle(content) -> None:
    endless: list = []
    endless.append(endless)
    content["memsuite"]["config"]["task_args"]["num_cues"] = endless


def config(**settings):
    return lambda content: content["memsuite"]["config"].update(settings)


def controller(**arguments):
    return lambda content: content["memsuite"]["config"]["controller_args"].update(arguments)


def at(*path):
    """Return a change of one entry: the names on the way, and what is put there."""
    *way, name, value = path

    def change(content) -> None:
        for each in way:
            content = content[each]
        content[name] = value

    return change


EVERYWHERE = {
    "whole numbers": (weight(torch.zeros(16, 4, dtype=torch.int64)), f"{ACTOR} is a tensor [16, 4] of int64"),
    "truths": (weight(torch.zeros(16, 4, dtype=torch.bool)), f"{ACTOR} is a tensor [16, 4] of bool"),
    "complex": (weight(torch.zeros(16, 4, dtype=torch.complex64)), f"{ACTOR} is a tensor [16, 4] of complex64"),
    "sparse": (weight(torch.zeros(16, 4).to_sparse()), f"{ACTOR} is a tensor [16, 4] of float32 of the layout"),
    "no numbers": (weight(torch.zeros(16, 4, device="meta")), f"{ACTOR} is a tensor [16, 4] of float32 without"),
    "not a number": (weight(torch.full((16, 4), torch.nan)), f"{ACTOR} is NaN in places"),
    "text": (weight("text" * 1000), f"{ACTOR} is the text 'texttext"),
    "another weight": (weight(torch.zeros(3), "more"), "more is missing here and [3] there"),
    "a number's name": (weight(torch.zeros(3), 3), "a name in state_dict is 3"),
    "a large network": (controller(hidden_dim=20_000), "is [60000, 17] here and [12, 17] there"),
    "a deep network": (controller(depth=10**7), "depth is 10000000"),
    "a large task": (lambda content: content["memsuite"]["config"]["task_args"].update(vocabulary=10**9), "[16] there"),
    "a large weight": (without_numbers, "whose numbers are all in the file"),
    "text for a number": (config(seed="one"), "config.seed is the text 'one'; it must be a whole number"),
    "a list for a number": (config(num_envs=[8]), "config.num_envs is a list"),
    "another objective": (config(objective="win"), "config.objective is the text 'win'; it must be ppo or supervised"),
    "no settings": (config(ppo=None), "config.ppo is missing; it must be a mapping"),
    "an unknown setting": (config(magic=1), "another version of memsuite: it has magic"),
    "an endless list": (cycle, "it must be of at most"),
    "many digits": (at("memsuite", "iteration", 10**400), "many digits"),
    "no version": (lambda content: content.pop("pytorch-lightning_version"), "a version of Lightning"),
    "no mapping": (at("memsuite", []), "memsuite is a list; it must be a mapping"),
    "a callback": (at("callbacks", "RunRecord", {}), "callbacks.RunRecord.spent is missing"),
    "no steps": (at("memsuite", "env_steps", None), "env_steps is missing; it must be a whole number"),
    "no arguments": (at("memsuite", "training_args", None), "training_args is missing; it must be a mapping"),
    "a tensor in the settings": (config(task_args={"num_cues": torch.ones(3)}), "num_cues is a tensor [3] of float32"),
    "an unknown task": (config(task="no_task"), "no task 'no_task'"),
    "an odd number of environments": (config(num_envs=7), "num_envs is 7"),
    "the loop of an evaluation": (at("loops", "test_loop", "batch_progress", "total", "text"), "loops.test_loop"),
    "ranks": (at("memsuite", "run", "ranks", "two"), "run.ranks is the text 'two'"),
}
RANK = ("memsuite", "run", "ranks", 0)
STATE, MATRIX = (("optimizer_states", 0, "state", number) for number in (4, 6))
GROUP = ("optimizer_states", 0, "param_groups", 0)
GOING_ON = {
    "a moment's shape": (at(*STATE, "exp_avg", torch.zeros(1)), "exp_avg in the optimiser's state of parameter 4"),
    "a moment's kind": (at(*STATE, "exp_avg_sq", torch.zeros(12, dtype=torch.int32)), "of int32; it must be"),
    "a moment as text": (at(*STATE, "exp_avg", "none"), "is the text 'none'; it must be a tensor [12] of"),
    "a moment below 0": (at(*STATE, "exp_avg_sq", torch.full((12,), -1.0)), "is not finite, or below 0"),
    "a momentum's shape": (at(*MATRIX, "momentum", torch.zeros(1)), "momentum in the optimiser's state of parameter 6"),
    "a moment of Adam's": (at(*MATRIX, "exp_avg", torch.zeros(12, 4)), "step, momentum, exp_avg; it must be step and"),
    "a parameter too many": (at("optimizer_states", 0, "state", 99, {}), "of one of 7 parameters"),
    "a rate": (at(*GROUP, "lr", "fast"), "lr in the optimiser's group 0 is the text 'fast'"),
    "betas": (at(*GROUP, "betas", (0.9, 1.5)), "betas in the optimiser's group 0 is 1.5"),
    "an optimiser's kind": (at(*GROUP, "fused", False), "fused in the optimiser's group 0 is False"),
    "an optimiser's setting": (at(*GROUP, "magic", 1), "a name in the optimiser's group 0 is the text 'magic'"),
    "a tensor of bits": (at(*GROUP, "maximize", torch.ones(2)), "maximize in the optimiser's group 0 is a tensor"),
    "parameters twice": (at(*GROUP, "params", [0, 0, 0]), "params in the optimiser's group 0"),
    "no loops": (at("loops", "fit_loop", {}), "loops.fit_loop.state_dict is missing"),
    "a loop": (at("loops", "test_loop", "text"), "loops.test_loop is the text 'text'"),
    "a memory": (at(*RANK, "state", (torch.zeros(4, 5),)), "run.ranks[0].state[0] is a tensor [4, 5]"),
    "environments": (at(*RANK, "running_return", torch.zeros(10**6)), "of 1 to 8 environments"),
    "a generator": (at(*RANK, "generators", "task", torch.zeros(9, dtype=torch.uint8)), "the state of a generator"),
    "a script": (at(*RANK, "task", "drawn_from", torch.zeros(5056, dtype=torch.uint8)), "the state of a generator"),
    "a position": (at(*RANK, "task", "position", 1000), "position is 1000; it must be a step of an episode of 10"),
    "a tensor for Python's": (at(*RANK, "random", "python", (torch.ones(2), (0,) * 625, None)), "random is not read"),
    "Python's generator": (at(*RANK, "random", "python", (9, (0,) * 625, None)), "random is not read"),
    "steps": (at("memsuite", "env_steps", 10**18), "env_steps is 1000000000000000000; it must be at most 160"),
}


@pytest.mark.parametrize("case", EVERYWHERE)
def test_what_no_run_leaves_is_named(refused, case):
    refused(*EVERYWHERE[case])


@pytest.mark.parametrize("case", GOING_ON)
def test_what_a_run_cannot_go_on_from_is_named(refused, case):
    refused(*GOING_ON[case], "fit --ckpt_path c.ckpt --out new --steps 240")


def test_lightning_and_retention_are_told_the_same(refused, tmp_path):
    refused(controller(hidden_dim=20_000), "is [60000, 17] here", "retention c.ckpt")
    with pytest.raises(UsageError, match=r"\[60000, 17\] here"):
        memsuite.load("c.ckpt")
    refused(weight("text"), f"{ACTOR} is the text", "retention c.ckpt")
    with pytest.raises(UsageError, match="is the text"):
        AtomicCheckpointIO().load_checkpoint("c.ckpt")


def test_an_archive_that_unpacks_to_more_is_not_unpacked(refused, saved, tmp_path):
    torch.save(saved, "plain.ckpt")
    with zipfile.ZipFile("plain.ckpt") as source, zipfile.ZipFile("c.ckpt", "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    with pytest.raises(UsageError, match="not a whole memsuite checkpoint"):
        memsuite.load("c.ckpt")


def test_a_run_goes_on_from_the_checkpoint_before_a_crafted_one(saved, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *SMALL.split(), "--steps", "160", "--checkpoint_every", "1", "--out", "run"]) == 0
    content = copy.deepcopy(saved)
    weight("text")(content)
    torch.save(content, tmp_path / "run" / CHECKPOINTS / LAST)
    assert main(["fit", "--ckpt_path", "last", "--out", "run", "--steps", "240"]) == 0
    assert "going on from the one before it" in caplog.text


def test_environments_are_played_on_from_whole_checkpoints_only(tmp_path, monkeypatch, capsys):
    """A task that is stepped keeps more than a script: its tensors are held to those of a fresh one."""
    monkeypatch.chdir(tmp_path)
    line = "fit --task distractor_nav --difficulty easy --num_envs 4 --steps 400 --device cpu --out run"
    assert main([*line.split(), "--evaluation_episodes", "2", "--controller_args.hidden_dim", "4"]) == 0
    path = tmp_path / "run" / CHECKPOINTS / LAST
    content = torch.load(path, weights_only=True)
    content["memsuite"]["run"]["ranks"][0]["task"]["agent"] = torch.zeros(3)
    torch.save(content, path)
    capsys.readouterr()
    assert main(["fit", "--ckpt_path", "run/checkpoints/last.ckpt", "--steps", "800"]) == 2
    assert "task.agent is a tensor [3] of float32" in capsys.readouterr().err
