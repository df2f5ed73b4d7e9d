"""Submissions to the leaderboard: good, tampered and incomplete ones; and what the page makes of them."""

import json
import shutil
from pathlib import Path

import pytest
from render import leaderboard

from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.submissions import digest_of, read_submission, rerun, verify
from memsuite.tasks import TASKS

MODEL = """
from memsuite.controllers import GRU


class Sent(GRU):
    '''A model of somebody's own.'''
"""
FIT = (
    "fit --task delayed_cue --difficulty easy --controller sent_model.Sent --controller_args.hidden_dim 8 --device cpu"
)
FIT += " --steps 6400 --num_envs 64 --evaluation_episodes 64"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with two runs of an own model, and the submission of them."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("sent_model.py").write_text(MODEL)
        for seed in ("0", "1"):
            assert main([*FIT.split(), "--seed", seed, "--out", f"runs/{seed}"]) == 0
        assert main(["submit", "runs", "--name", "sent", "--by", "Ada | Lovelace"]) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capfd, path: str = "sent.json") -> str:
    capfd.readouterr()
    assert main(["submit", "--check", path]) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1, said
    return said


def changed(change, again: bool = False) -> None:
    """Change the file; with ``again``, give it the digest of its new content."""
    content = json.loads(Path("sent.json").read_text())
    change(content)
    if again:
        content["digest"] = digest_of(content)
    Path("sent.json").write_text(json.dumps(content))


def test_a_good_one_is_whole(folder, capfd):
    assert main(["submit", "--check", "sent.json"]) == 0
    assert "sent.json is whole: 2 runs of 1 model" in capfd.readouterr().out
    content = read_submission("sent.json")
    assert content["source"] == {"sent_model.py": MODEL}
    run = content["runs"][0]
    assert {"config", "versions", "parameters", "state_floats", "hardware", "curve", "command"} <= run.keys()
    Path("other.json").write_text(json.dumps(content))  # laid out in another way, it is the same
    assert main(["submit", "--check", "other.json"]) == 0
    assert main(["submit", "runs", "--name", "sent"]) == 2  # which is there already


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["runs"][0].update(success=1.0, success_high=1.0), "has another digest"),
        (lambda content: content["source"].update({"sent_model.py": "other"}), "has another digest"),
        (lambda content: content["runs"].pop(), "has another digest"),
        (lambda content: content.pop("digest"), "has no 'digest'"),
        (lambda content: content.pop("source"), "has no 'source'"),
        (lambda content: content.update(format=2), "no submission of format 1"),
    ],
)
def test_a_tampered_or_incomplete_one_is_one_line(folder, capfd, change, words):
    changed(change)
    assert words in refused(capfd)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["runs"][0].update(score=0.9), "does not follow from its success"),
        (
            lambda content: content["runs"][0].update(
                reached_target=True, success=0.5, success_low=0, success_high=1, score=1 / 3
            ),
            "reached_target contradicts",
        ),
        (lambda content: content["runs"][0].update(env_steps=10**9), "the configuration asks for 6,400"),
        (lambda content: content["runs"][0].update(parameters=None), "does not say its parameters"),
        (lambda content: content["runs"][0].pop("versions"), "does not say its versions"),
        (lambda content: content["runs"].append(content["runs"][0]), "runs 1 and 3 have the same settings and seed"),
        (lambda content: content.update(runs=[]), "holds no run"),
        (lambda content: content.update(by=7), "name and by must be texts"),
        (lambda content: content.update(source={}), "its file sent_model.py is not in the submission"),
    ],
)
def test_what_contradicts_itself_is_refused_under_a_digest_of_its_own_too(folder, capfd, change, words):
    changed(change, again=True)
    assert words in refused(capfd)


def test_a_file_that_was_cut_off_is_one_line(folder, capfd):
    Path("sent.json").write_text(Path("sent.json").read_text()[:-100])
    assert "sent.json" in refused(capfd)
    assert "no results at nothing" in _said(capfd, "submit", "nothing")
    assert "name runs to submit" in _said(capfd, "submit")


def _said(capfd, *words: str) -> str:
    capfd.readouterr()
    assert main(list(words)) == 2
    return capfd.readouterr().err


def test_the_cheapest_run_is_trained_again_from_the_file_alone(folder, tmp_path, capfd, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy("sent.json", empty)
    monkeypatch.chdir(empty)
    assert main(["submit", "--check", "sent.json", "--rerun"]) == 0
    assert "they agree" in capfd.readouterr().out

    def claim(content):
        for run in content["runs"]:
            run.update(success=1.0, success_low=0.99, success_high=1.0, score=1.0, reached_target=True)

    changed(claim, again=True)
    assert main(["submit", "--check", "sent.json", "--rerun"]) == 1
    assert "they do not agree" in capfd.readouterr().err


def test_a_file_outside_the_folder_is_not_written(folder, tmp_path):
    changed(lambda content: content["source"].update({"../outside.py": "x"}), again=True)
    content = read_submission("sent.json")
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(UsageError, match="outside its folder"):
        rerun(content, verify(content, "sent.json"), work)
    assert not (tmp_path / "outside.py").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"curriculum": {"argument": "horizon", "start": 10, "factor": 2.0}},
        {"init_from": "runs/x"},
        {"precision": "bf16-mixed"},
        {"command": "memsuite fit --steps 100 && memsuite fit --ckpt_path last --steps 6400"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_its_settings_do_not_say_is_not_trained_again(folder, tmp_path, change):
    changed(lambda content: [run.update(change) for run in content["runs"]], again=True)
    content = read_submission("sent.json")
    with pytest.raises(UsageError, match="so none can be run again"):
        rerun(content, verify(content, "sent.json"), tmp_path)


def test_the_leaderboard_has_a_row_for_it(folder, tmp_path):
    board = leaderboard.section(submissions=tmp_path)
    (row,) = [line for line in board.splitlines() if "sent_model.Sent" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(leaderboard.HEADINGS)
    assert cells[0] == ""  # one task of eight has no rank
    assert cells[3:6] == ["0", "1", "2"]  # at target, tasks, seeds
    assert cells[-1] == "sent, by Ada   Lovelace"
    changed(lambda content: content["runs"].pop())
    with pytest.raises(UsageError, match="another digest"):
        leaderboard.section(submissions=tmp_path)


def test_runs_beyond_the_budget_or_of_other_tasks_do_not_count(folder):
    results = verify(read_submission("sent.json"), "sent.json")
    assert len(leaderboard.entries_of(results, "x", set())) == 1
    for change in ({"horizon": 60}, {"env_steps": 10**12}, {"objective": "supervised"}, {"task": "gym:CartPole-v1"}):
        other = [type(run)(**{**vars(run), **change}) for run in results]
        assert leaderboard.entries_of(other, "x", set()) == []


def test_another_experiment_is_another_row_of_the_leaderboard(folder):
    """A curriculum, an extension and another recipe were averaged with plain runs, as further seeds."""
    results = verify(read_submission("sent.json"), "sent.json")
    used = {"argument": "horizon", "start": 5, "factor": 1.5, "stages": []}
    names = [leaderboard.name_of(type(run)(**{**vars(run), "curriculum": used})) for run in results]
    assert all("curriculum=horizon from 5 x 1.5" in name for name in names)
    grown = [type(run)(**{**vars(run), "curriculum": used}) for run in results]
    assert len(leaderboard.entries_of([*results, *grown], "x", set())) == 2


def test_a_rank_needs_the_tasks_that_were_published(folder):
    """A task that is added later takes no rank away; where nothing was published, all tasks count."""
    results = verify(read_submission("sent.json"), "sent.json")
    tier = results[0].difficulty
    (entry,) = leaderboard.entries_of(results, "x", {(run.task, tier) for run in results})
    assert entry.whole
    for published in (set(), {(task, tier) for task in TASKS}):
        (entry,) = leaderboard.entries_of(results, "x", published)
        assert not entry.whole
