"""A run folder that is moved, deleted or replaced while its run trains: one line, and nothing else is touched."""

import os
import shutil

import lightning.pytorch as pl
import pytest

import memsuite
from memsuite.__main__ import main
from memsuite.files import FolderGone, check_there, watched, write_json
from memsuite.suite import store, worker
from memsuite.suite.grid import Run

TINY = "--task delayed_cue --difficulty easy --horizon 10 --num_envs 8 --device cpu --evaluation_episodes 8"
TINY += " --controller_args.hidden_dim 4"
HOW = {
    "moved": lambda: os.rename("run", "away"),
    "deleted": lambda: shutil.rmtree("run"),
    "replaced by another run": lambda: (os.rename("run", "away"), shutil.copytree("other", "run")),
    "replaced by a link": lambda: (os.rename("run", "away"), os.symlink("other", "run")),
    "replaced by a file": lambda: (os.rename("run", "away"), open("run", "w").close()),
    "its parent moved": lambda: os.rename(os.getcwd(), f"{os.getcwd()} away"),
}


class Mischief(pl.Callback):
    """Does something to the run folder after an iteration; the run has nothing of the user's in its own trace."""

    how, after = "", 0

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.iteration == self.after:
            HOW[self.how]()


def fit(folder: str, *more: str) -> int:
    return main(["fit", *TINY.split(), "--steps", "480", "--checkpoint_every", "1", "--out", folder, *more])


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert fit("other") == 0
    (tmp_path / "mischief.yaml").write_text(f"trainer: {{callbacks: [{{class_path: {__name__}.Mischief}}]}}\n")
    return tmp_path


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("after", [2, 6])
@pytest.mark.parametrize("how", HOW)
def test_one_line_and_nothing_of_another_run_is_touched(here, monkeypatch, capsys, how, after):
    monkeypatch.setattr(Mischief, "how", how)
    monkeypatch.setattr(Mischief, "after", after)
    before = content(here / "here" / "other")
    capsys.readouterr()
    status = fit(str(here / "here" / "run"), "--config", str(here / "mischief.yaml"))
    said = [line for line in capsys.readouterr().err.splitlines() if "steps/s" not in line]
    assert (status, len(said)) == (1, 1), said
    assert f"the run folder {here / 'here' / 'run'} was moved, deleted or replaced" in said[0]
    assert "--ckpt_path last --out FOLDER" in said[0]
    found = here / "here away" if how == "its parent moved" else here / "here"
    assert content(found / "other") == before
    if how.startswith("replaced by another"):
        assert content(found / "run") == before
    if how in ("moved", "deleted", "its parent moved"):
        assert not (here / "here" / "run").exists()
    away = {"deleted": None, "its parent moved": found / "run"}.get(how, found / "away")
    if away:
        monkeypatch.setattr(Mischief, "after", 0)
        assert memsuite.load(away).iteration >= after - 1
        assert main(["fit", "--ckpt_path", "last", "--out", str(away)]) == 0


def test_a_link_to_checkpoints_that_leads_nowhere_is_one_line(here, monkeypatch, capsys):
    (here / "scratch").mkdir()
    (here / "here" / "run").mkdir()
    os.symlink(here / "scratch", here / "here" / "run" / "checkpoints")
    monkeypatch.setitem(HOW, "gone", lambda: shutil.rmtree(here / "scratch"))
    monkeypatch.setattr(Mischief, "how", "gone")
    monkeypatch.setattr(Mischief, "after", 2)
    capsys.readouterr()
    assert fit("run", "--config", str(here / "mischief.yaml")) == 1
    assert "cannot write into run" in capsys.readouterr().err.splitlines()[-1]


def test_what_is_not_watched_is_written(tmp_path):
    with watched(tmp_path / "a"):
        (tmp_path / "a").mkdir()
        with pytest.raises(FolderGone, match="was moved, deleted or replaced"):
            check_there(tmp_path / "a" / "x")
    write_json(tmp_path / "a" / "x.json", {})
    with watched(tmp_path / "a"):
        write_json(tmp_path / "a" / "x.json", {})
        write_json(tmp_path / "b" / "x.json", {})


def test_a_suite_leaves_a_replaced_folder_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run("x", tmp_path / "x", (), {"seed": 0}, {"seed": 0})

    def fails(run, arguments):
        os.rename("x", "away")
        os.mkdir("x")
        return 1

    monkeypatch.setattr(worker, "_fit", fails)
    assert worker.work(run, str(tmp_path)) == 1
    assert not list((tmp_path / "x").iterdir())
    assert not (tmp_path / "away" / store.FAILED).exists()
