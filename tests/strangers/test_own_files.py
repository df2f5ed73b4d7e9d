"""A user's own files: found beside what names them, kept with the run, and asked for where they are missing."""

import itertools
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
import yaml

import memsuite
from memsuite.__main__ import main
from memsuite.imports import PLACES

MODEL = """
import torch
from torch import nn

from memsuite.controllers import Controller
from {helper} import WIDTH


class Model(Controller):
    def __init__(self, input_dim, hidden_dim=WIDTH):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.cell = nn.GRUCell(input_dim, hidden_dim)

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, self.feature_dim, device=device or self.cell.weight_ih.device)

    def forward_step(self, x_BD, state):
        state = self.cell(x_BD, state)
        return state, state

    def reset_mask(self, state, is_first_B):
        return state.masked_fill(is_first_B[:, None], 0)
"""
ENVIRONMENT = """
import gymnasium
import numpy as np


class Env(gymnasium.Env):
    def __init__(self, most=10):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (9,), np.float32)
        self.action_space, self.most = gymnasium.spaces.Discrete(2), most

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.taken = 0
        return self.np_random.uniform(-1, 1, 9).astype(np.float32), {{}}

    def step(self, action):
        self.taken += 1
        seen = self.np_random.uniform(-1, 1, 9).astype(np.float32)
        return seen, float(action), self.taken >= self.most, False, {{}}


gymnasium.register("{name}-v0", entry_point=Env, max_episode_steps=10)
"""
LINE = "--num_envs 8 --steps 320 --horizon 10 --evaluation_episodes 8 --device cpu"
NUMBERS = itertools.count()
SMALL = [*LINE.split(), "--controller_args.hidden_dim", "4"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return the folder ``mine``, which is not the current one, with a model, what it imports, and an environment."""
    number = next(NUMBERS)  # names that no other test has loaded
    folder, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    folder.mkdir(), elsewhere.mkdir()
    names = {name: f"own_{name}_{number}" for name in ("model", "helper", "envs")}
    (folder / f"{names['model']}.py").write_text(MODEL.format(helper=names["helper"]))
    (folder / f"{names['helper']}.py").write_text("WIDTH = 4\n")
    (folder / f"{names['envs']}.py").write_text(ENVIRONMENT.format(name=f"Env{number}"))
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield folder, f"{names['model']}.Model", f"gym:{names['envs']}:Env{number}-v0"
    for name in names.values():
        sys.modules.pop(name, None)


def forget(files) -> None:
    """Make this process one that has not loaded the user's files."""
    for name in [name for name in sys.modules if name.startswith(("own_model_", "own_helper_", "own_envs_"))]:
        del sys.modules[name]
    gymnasium.registry.pop(files[2].rpartition(":")[2], None)
    PLACES.clear()
    sys.path[:] = [folder for folder in sys.path if not folder.startswith(str(files[0].parent))]


def test_they_are_found_beside_a_configuration_and_kept_with_the_run(files, tmp_path):
    folder, model, environment = files
    (folder / "c.yaml").write_text(yaml.safe_dump({"controller": model, "task": environment}))
    assert main(["fit", "--config", "../mine/c.yaml", "--out", "x", *SMALL]) == 0
    kept = {path.name: path.read_text() for path in Path("x/source").iterdir()}
    assert kept == {path.name: path.read_text() for path in folder.glob("*.py")}
    forget(files)
    for path in folder.glob("*.py"):
        path.unlink()
    assert main(["fit", "--config", "x/config.yaml", "--out", "y"]) == 0  # the run's own configuration finds its copies
    forget(files)
    go_on = ["fit", "--ckpt_path", "last", "--out", "x", "--steps", "640"]
    assert main(go_on) == 2  # copies are code that lies in a run folder
    assert main([*go_on, "--trust"]) == 0


def test_they_are_found_in_a_folder_that_is_named(files):
    _, model, environment = files
    line = ["fit", "--task", environment, "--controller", model, "--out", "x", *SMALL]
    assert main(line) == 2
    assert main([*line, "--modules", "../mine"]) == 0
    assert yaml.safe_load(Path("x/config.yaml").read_text())["modules"] is None  # which is of one start


@pytest.mark.timeout(120)
def test_they_are_found_beside_a_suite(files, capfd):
    folder, model, environment = files
    settings = {"steps": 320, "num_envs": 8, "evaluation_episodes": 8, "controller_args": {"hidden_dim": 4}}
    grid = {"controller": [model], "task": [environment], "seed": [0, 1]}
    (folder / "s.yaml").write_text(yaml.safe_dump({"settings": settings, "grid": grid}))
    assert main(["suite", "../mine/s.yaml", "--dry_run"]) == 0
    assert "memsuite fit --modules ../mine --task gym:" in capfd.readouterr().out
    forget(files)
    assert main(["suite", "../mine/s.yaml", "--jobs", "1", "--out", "runs"]) == 0
    assert len(list(Path("runs").rglob(f"source/{model.partition('.')[0]}.py"))) == 2


def test_load_elsewhere_names_the_file_to_bring(files, tmp_path, capfd):
    folder, model, _ = files
    assert main(["fit", "--controller", model, "--modules", str(folder), "--out", "x", *SMALL]) == 0
    forget(files)
    file = f"{model.partition('.')[0]}.py"
    with pytest.raises(memsuite.errors.UsageError, match=rf"cp x/source/{file} \. brings it") as caught:
        memsuite.load("x")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    capfd.readouterr()
    assert main(["test", "--ckpt_path", "x"]) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"cp x/source/{file} ." in said
    assert memsuite.load("x", trust=True).config.controller == model
    forget(files)
    assert main(["test", "--ckpt_path", "x", "--trust"]) == 0


def test_a_copy_is_not_imported_without_trust(files):
    """Not even of a run of the user's own: whoever can write into its folder could have put the file there."""
    folder, model, _ = files
    assert main(["fit", "--controller", model, "--modules", str(folder), "--out", "x", *SMALL]) == 0
    (Path("x/source") / f"{model.partition('.')[0]}.py").write_text("open('taken', 'w')\n")
    code = f"import memsuite; memsuite.load({str(Path('x').resolve())!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "brings it" in done.stderr
    assert "direct cause" not in done.stderr
    assert "During handling" not in done.stderr
    assert not Path("taken").exists()


def test_a_file_that_has_changed_is_named_and_its_copy_stays(files, caplog):
    folder, model, _ = files
    line = ["fit", "--controller", model, "--modules", str(folder), "--out", "x", *SMALL]
    assert main(line) == 0
    file = folder / f"{model.partition('.')[0]}.py"
    before = file.read_text()
    file.write_text(f"{before}\n# another line\n")
    assert main([*line, "--ckpt_path", "last", "--steps", "640"]) == 0
    assert f"{file} has changed since the run began" in caplog.text
    assert (Path("x/source") / file.name).read_text() == before
    assert main([*line, "--overwrite"]) == 0
    assert (Path("x/source") / file.name).read_text() == file.read_text()
