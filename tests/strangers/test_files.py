"""Unusual files and places of users: damaged checkpoints, links, odd names, other encodings, any module."""

import json
import os
import subprocess
import sys
import zipfile

import pytest
import torch
import yaml

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.imports import module_at
from memsuite.reading import UniqueKeys
from memsuite.runs.checkpoints import begin_with
from memsuite.runs.folder import CHECKPOINTS, LAST, PREVIOUS
from memsuite.storage import AtomicCheckpointIO

SMALL = ["--task", "delayed_cue", "--difficulty", "easy", "--horizon", "10", "--num_envs", "8", "--device", "cpu"]
SMALL += ["--evaluation_episodes", "8", "--controller_args.hidden_dim", "4"]


def fit(folder, *more: str, steps: int = 160, status: int = 0) -> None:
    assert main(["fit", *SMALL, "--steps", str(steps), "--out", str(folder), *more]) == status


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fit(folder, "--checkpoint_every", "1")
    return folder


def flipped(path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def weights_of(path) -> int:
    """Return the position of some tensor's bytes in the archive."""
    with zipfile.ZipFile(path) as archive:
        largest = max((one for one in archive.infolist() if "/data/" in one.filename), key=lambda one: one.file_size)
        return largest.header_offset + 200 + largest.file_size // 2


@pytest.fixture
def damaged(run, tmp_path):
    (tmp_path / CHECKPOINTS).mkdir()
    for name in (LAST, PREVIOUS):
        (tmp_path / CHECKPOINTS / name).write_bytes((run / CHECKPOINTS / name).read_bytes())
    flipped(tmp_path / CHECKPOINTS / LAST, weights_of(tmp_path / CHECKPOINTS / LAST))
    return tmp_path


def test_one_flipped_bit_is_seen_wherever_a_checkpoint_is_read(damaged):
    last = damaged / CHECKPOINTS / LAST
    torch.load(last, weights_only=True)  # PyTorch does not notice the damage
    with pytest.raises(UsageError, match=r"is not a whole memsuite checkpoint .*; the one before it is whole"):
        memsuite.load(last)
    with pytest.raises(UsageError, match="is not a whole memsuite checkpoint"):
        AtomicCheckpointIO().load_checkpoint(last)
    with pytest.raises(UsageError, match="is not a whole memsuite checkpoint"):
        begin_with(torch.nn.Linear(1, 1), last)


def test_the_one_before_is_taken_in_its_place(damaged, caplog):
    assert memsuite.load(damaged).env_steps == 80
    assert "going on from the one before it" in caplog.text


def test_a_run_goes_on_where_its_checkpoints_are_a_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "linked").mkdir()
    os.symlink(tmp_path / "scratch", tmp_path / "linked" / CHECKPOINTS)
    os.symlink(tmp_path / "linked", tmp_path / "other name")
    fit("linked")
    fit("other name", "--ckpt_path", "last", steps=240)
    fit("linked", "--ckpt_path", "linked/checkpoints/last.ckpt", steps=320)
    assert (tmp_path / "linked" / CHECKPOINTS).is_symlink()
    assert json.loads((tmp_path / "linked" / "result.json").read_text())["env_steps"] == 320


@pytest.mark.parametrize("name", ["x[bold]y[/]:smile:", "a[/b]"])
def test_a_folder_is_shown_by_its_name(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    fit(name)
    assert name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("0x1f", 31),
        ("200_000", 200000),
        ("1:30", "1:30"),
        ("08", 8),
        ("0", 0),
    ],
)
def test_whole_numbers_count_in_tens(tmp_path, monkeypatch, capsys, text, value):
    assert yaml.load(f"a: {text}\nb: '{text}'", UniqueKeys) == {"a": value, "b": text}
    (tmp_path / "c.yaml").write_text(f"task_args: {{a: {text}}}\n")
    for given in (["--config", str(tmp_path / "c.yaml")], ["--task_args", f"{{a: {text}}}"]):
        with pytest.raises(SystemExit):
            main(["fit", *given, "--print_config"])
        assert yaml.safe_load(capsys.readouterr().out)["task_args"] == {"a": value}


PLACES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
}


@pytest.mark.parametrize("place", PLACES)
def test_letters_of_other_languages_are_no_obstacle(tmp_path, place):
    (tmp_path / "größe.yaml").write_bytes("\ufeff# für später → größer\nseed: 010\n".encode())
    command = [sys.executable, "-m", "memsuite", "fit", *SMALL, "--steps", "80", "--config", "größe.yaml"]
    env = os.environ | PLACES[place]
    for last in (["--out", "läufe/x"], ["--out", "läufe/x", "--ckpt_path", "last", "--steps", "160"]):
        out = subprocess.run([*command, *last], cwd=tmp_path, env=env, capture_output=True)
        assert out.returncode == 0, out.stderr
    assert json.loads((tmp_path / "läufe/x/result.json").read_text())["seed"] == 10


MINE = "from memsuite.controllers import GRU\n\n\nclass Mine(GRU):\n    pass\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere"), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_file_where_the_command_starts_wins(here):
    (here / "here" / "two_of_them.py").write_text("WHERE = 'here'\n")
    (here / "elsewhere" / "two_of_them.py").write_text("WHERE = 'elsewhere'\n")
    assert module_at("two_of_them").WHERE == "here"


def test_the_file_where_the_command_starts_wins_over_what_was_loaded(here):
    (here / "elsewhere" / "loaded_before.py").write_text("WHERE = 'elsewhere'\n")
    before = module_at("loaded_before")
    (here / "here" / "loaded_before.py").write_text("WHERE = 'here'\n")
    assert module_at("loaded_before").WHERE == "here"
    assert module_at("loaded_before") is module_at("loaded_before")
    assert sys.modules["loaded_before"] is before


@pytest.mark.parametrize("name", ["code", "random", "types", "statistics"])
def test_a_file_may_be_called_like_a_module_of_pythons(here, name):
    standard = sys.modules.get(name)
    (here / "here" / f"{name}.py").write_text(MINE)
    found = memsuite.make_controller(f"{name}.Mine", input_dim=3, hidden_dim=4)
    assert type(found).__name__ == "Mine"
    assert standard is None or sys.modules[name] is standard


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def (\n", r"SyntaxError: .* \(broken.py:1\)"),
        ("x = 1\nraise RuntimeError('no device')\n", r"RuntimeError: no device \(broken.py:2\)"),
        ("import nothing_of_this_name\n", "nothing_of_this_name"),
        ("x = '\x00'\n", "cannot be imported"),
        ("", "no attribute 'Mine'"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(here, text, words):
    (here / "here" / "broken.py").write_text(text)
    with pytest.raises(UsageError, match=words) as told:
        memsuite.make_controller("broken.Mine", input_dim=3)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["[]", "3", '"words"', "[" * 100_000, "null"], ids=lambda text: text[:8])
def test_a_result_that_is_none_is_one_line(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text(text)
    assert main(["report", "--results", "run", "--out", "page"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "result.json" in said
