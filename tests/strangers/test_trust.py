"""What a stranger's file names is not imported: a checkpoint, its settings, and the configuration beside it."""

import shutil
import sys

import pytest
import torch

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO

EVIL = "import pathlib\npathlib.Path('imported').touch()\n"
MINE = "from memsuite.controllers import GRU\nfrom lightning.pytorch import Callback\n\n\n"
MINE += "class Mine(GRU):\n    pass\n\n\nclass Watch(Callback):\n    pass\n"
SMALL = "--task delayed_cue --difficulty easy --horizon 10 --num_envs 8 --device cpu --evaluation_episodes 8"
SMALL += " --controller_args.hidden_dim 4 --steps 160"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    assert main(["fit", *SMALL.split(), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A folder with a module that must not be imported, and a run in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "mine_of_trust.py").write_text(MINE)
    shutil.copytree(trained, tmp_path / "stranger")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in ("evil", "mine_of_trust"):
            del sys.modules[name]


def craft(folder, **settings) -> None:
    """Put settings into the checkpoint of a run."""
    path = folder / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["memsuite"]["config"].update(settings)
    torch.save(content, path)


@pytest.fixture
def refused(here, capsys):
    """A function that gives a command, which must be refused in one line with the words, and import nothing."""

    def call(line: str, *words: str) -> None:
        before = sorted(here.rglob("*"))
        status = main(line.split())
        said = capsys.readouterr().err
        assert status == 2, said
        assert len(said.splitlines()) == 1, said
        assert all(word in said for word in (*words, "--trust")), said
        assert sorted(here.rglob("*")) == before
        assert "evil" not in sys.modules

    return call


NAMED = {
    "controller": {"controller": "evil.Memory"},
    "task": {"task": "evil.Task"},
    "environment": {"task": "gym:evil:Env-v0"},
    "argument": {"task_args": {"num_cues": {"class_path": "evil.Number"}}},
    "text": {"controller_args": {"gain": '"{class\\u005fpath: evil.Number}"'}},
}
READERS = (
    "test --ckpt_path stranger",
    "fit --ckpt_path stranger/checkpoints/last.ckpt --out new",
    "retention stranger",
)


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("line", READERS)
def test_a_module_that_a_checkpoint_names_is_not_imported(here, refused, line, named):
    craft(here / "stranger", **NAMED[named])
    refused(line, "last.ckpt", "controller_args" if named == "text" else "evil")


def test_nor_is_it_from_python(here):
    craft(here / "stranger", controller="evil.Memory")
    for read in (memsuite.load, MemoryPPO.load_from_checkpoint):
        with pytest.raises(UsageError, match=r"last\.ckpt names .*evil.*trust=True"):
            read("stranger")
    assert not (here / "imported").exists()


def test_whoever_trusts_it_or_types_it_himself_gets_it(here, capsys):
    craft(here / "stranger", controller="mine_of_trust.Mine")
    assert type(memsuite.load("stranger", trust=True).model.controller).__name__ == "Mine"
    settings = {"controller": "mine_of_trust.Mine"}
    assert type(MemoryPPO.load_from_checkpoint("stranger", **settings).model.controller).__name__ == "Mine"
    assert main(["test", "--ckpt_path", "stranger"]) == 2
    assert main(["test", "--ckpt_path", "stranger", "--trust"]) == 0
    assert main(["test", "--ckpt_path", "stranger", "--controller", "mine_of_trust.Mine"]) == 0
    (here / "own.yaml").write_text("model: {controller: mine_of_trust.Mine}\n")
    assert main(["test", "--ckpt_path", "stranger", "--config", "own.yaml"]) == 0


def test_a_file_that_is_called_like_a_module_of_memsuites_is_a_strangers(here):
    (here / "memsuite" / "controllers").mkdir(parents=True)
    craft(here / "stranger", controller="memsuite.controllers.memoryless.Memoryless", controller_args={"hidden_dim": 4})
    with pytest.raises(UsageError, match="does not fit"):  # it is ours, and its weights are others
        memsuite.load("stranger")
    (here / "memsuite" / "controllers" / "memoryless.py").write_text(EVIL)
    with pytest.raises(UsageError, match="trust=True"):
        memsuite.load("stranger")


CONFIGURED = {
    "callback": ("callbacks: null", "callbacks: [{class_path: evil.Watch}]"),
    "call": ("logger: false", "logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: x}}"),
    "text": ("plugins: null", "plugins: evil.Plugin"),
    "folder": ("out: null", "out: elsewhere"),
    "controller": ("controller: gru", "controller: evil.Memory"),
}


@pytest.mark.parametrize("case", CONFIGURED)
def test_the_configuration_beside_a_checkpoint_calls_nothing(here, refused, case):
    config = here / "stranger" / "config.yaml"
    before, after = CONFIGURED[case]
    config.write_text(config.read_text().replace(f"{before}\n", f"{after}\n"))
    refused("fit --ckpt_path stranger --out new --steps 240", "config.yaml names")
    refused("fit --ckpt_path stranger/checkpoints/last.ckpt --steps 240", "config.yaml names")


def test_a_run_of_ones_own_goes_on_without_being_asked(here):
    line = f"fit {SMALL} --controller mine_of_trust.Mine --trainer.callbacks mine_of_trust.Watch --out own"
    assert main(line.split()) == 0
    assert main(["fit", "--ckpt_path", "last", "--out", "own", "--steps", "240"]) == 0
    assert main(["validate", "--ckpt_path", "last", "--out", "own"]) == 0
    assert main(["fit", "--ckpt_path", "own", "--steps", "320"]) == 2
    assert main(["fit", "--ckpt_path", "own", "--steps", "320", "--trust"]) == 0


def test_a_run_that_was_made_here_is_known_by_its_seal(here, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(here / "state"))
    assert main(f"fit {SMALL} --controller mine_of_trust.Mine --out own".split()) == 0
    key = here / "state" / "memsuite" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert type(memsuite.load("own").model.controller).__name__ == "Mine"
    assert main(["test", "--ckpt_path", "own"]) == 0
    assert main(["fit", "--ckpt_path", "own", "--steps", "240"]) == 0
    craft(here / "own", controller="evil.Memory")  # the seal is of another name
    with pytest.raises(UsageError, match="trust=True"):
        memsuite.load("own")
    craft(here / "own", controller="mine_of_trust.Mine")
    assert memsuite.load("own").iteration == 3
    key.chmod(0o644)  # others know it
    with pytest.raises(UsageError, match="trust=True"):
        memsuite.load("own")
    key.unlink()  # another machine
    with pytest.raises(UsageError, match="trust=True"):
        memsuite.load("own")
    assert not key.exists()


def test_trust_is_no_setting_of_a_file(here, capsys):
    (here / "c.yaml").write_text("trust: true\n")
    assert main(["fit", "--config", "c.yaml", "--out", "x"]) == 2
    assert "command line: --trust" in capsys.readouterr().err
