"""A class of the user's own whose defaults have changed since a run: told in one line, and gone on with if asked."""

import sys

import pytest
import torch

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError

CONTROLLER = "from memsuite.controllers import GRU\n\n\nclass Mine(GRU):\n"
CONTROLLER += "    def __init__(self, input_dim, hidden_dim={}, gain=1.0, memory_horizon=None{}):\n"
CONTROLLER += "        super().__init__(input_dim=input_dim, hidden_dim=hidden_dim, memory_horizon=memory_horizon)\n"
TASK = "from memsuite.tasks import DelayedCue\n\n\nclass Wait(DelayedCue):\n"
TASK += "    def __init__(self, horizon=10, num_cues={}):\n"
TASK += "        super().__init__(horizon=horizon, num_cues=num_cues, vocabulary=4)\n"
SMALL = "--horizon 10 --num_envs 8 --device cpu --evaluation_episodes 8 --steps 160 --out run"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a module of the user's, which is imported anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def to(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)

    yield to
    for name in ("changed_controller", "changed_task"):
        sys.modules.pop(name, None)


def refused(capsys, line: str, *words: str) -> None:
    capsys.readouterr()
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    assert all(word in said for word in words), said


def test_a_controller_with_another_default(write, capsys):
    write("changed_controller", CONTROLLER.format(4, ""))
    assert main(f"fit --task delayed_cue --difficulty easy --controller changed_controller.Mine {SMALL}".split()) == 0
    write("changed_controller", CONTROLLER.format(6, ""))
    told = "changed_controller.Mine has changed since: hidden_dim was 4 by default and is 6 now"
    for line in ("test --ckpt_path run", "retention run --horizons 20"):
        refused(capsys, line, told, "--trust")
    refused(capsys, "fit --ckpt_path last --out run", "'hidden_dim': 4", "'hidden_dim': 6")
    with pytest.raises(UsageError, match="hidden_dim was 4 by default and is 6 now"):
        memsuite.load("run")
    # The arguments of the run are in the checkpoint, so whoever goes on gets the network of then.
    assert memsuite.load("run", trust=True).model.controller.feature_dim == 4
    assert main(["test", "--ckpt_path", "run", "--trust"]) == 0
    write("changed_controller", CONTROLLER.format(4, ", added=3"))  # a new argument with a default changes nothing
    assert main(["test", "--ckpt_path", "run"]) == 0


def test_a_task_with_another_default(write, capsys):
    write("changed_task", TASK.format(2))
    assert main(f"fit --task changed_task.Wait --controller_args.hidden_dim 4 {SMALL}".split()) == 0
    write("changed_task", TASK.format(3))
    refused(capsys, "test --ckpt_path run", "task changed_task.Wait", "num_cues was 2 by default and is 3 now")


def test_a_checkpoint_without_defaults_loads(write):
    """As those of before do, and those of memsuite's own models."""
    write("changed_controller", CONTROLLER.format(4, ""))
    assert main(f"fit --task delayed_cue --difficulty easy --controller changed_controller.Mine {SMALL}".split()) == 0
    path = "run/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["memsuite"].pop("defaults") == {
        "controller": {"hidden_dim": 4, "gain": 1.0, "memory_horizon": None},
    }
    torch.save(content, path)
    write("changed_controller", CONTROLLER.format(6, ""))
    assert main(["test", "--ckpt_path", "run"]) == 0


def test_defaults_of_a_crafted_file_are_told_in_one_line(write, capsys):
    write("changed_controller", CONTROLLER.format(4, ""))
    assert main(f"fit --task delayed_cue --difficulty easy --controller changed_controller.Mine {SMALL}".split()) == 0
    path = "run/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    for wrong in ("text", {"controller": [1]}, {"controller": {"hidden_dim": torch.zeros(2)}}):
        content["memsuite"]["defaults"] = wrong
        torch.save(content, path)
        capsys.readouterr()
        assert main(["test", "--ckpt_path", "run"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
