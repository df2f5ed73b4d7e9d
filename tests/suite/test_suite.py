"""A suite end to end: which runs start, which are left alone, which are tried again, and the messages about them."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from same_run import assert_same, end_state
from suites import SuiteProcess, all_gone, children_of, run_folders, write_suite
from test_grid import ROOT

from memsuite import system
from memsuite.__main__ import main
from memsuite.launch.folder import own_folder
from memsuite.suite import store
from memsuite.suite.grid import read_suite
from memsuite.suite.worker import work

ONE_TASK = {"task": ["delayed_cue"], "seed": [0, 1]}


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run ``memsuite`` in a separate folder; return the status and the output."""
    monkeypatch.chdir(tmp_path)

    def call(*words) -> tuple[int, str]:
        status = main([str(word) for word in words])
        out = capfd.readouterr()
        return status, out.out + out.err

    return call


def test_tiny_sanity(run, tmp_path):
    status, said = run("suite", ROOT / "configs" / "suites" / "tiny_sanity.yaml")
    assert status == 0, said
    assert said.splitlines()[-1] == "1 of 1 runs finished in runs/tiny_sanity"
    folder = tmp_path / "runs" / "tiny_sanity" / "delayed_cue-medium-H50" / "gru" / "seed0"
    result = json.loads((folder / "result.json").read_text())
    assert (result["env_steps"], result["success"]) == (4_096_000, 1.0)
    for name in ("config.yaml", "metrics.csv", "log.txt", "checkpoints/last.ckpt"):
        assert (folder / name).is_file()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run("suite", ROOT / "configs" / "suites" / "tiny_sanity.yaml")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_twelve_runs_and_the_same_twelve_by_their_command_lines(run, tmp_path):
    suite = write_suite(tmp_path)
    status, said = run("suite", suite, "--dry_run")
    assert status == 0
    assert not (tmp_path / "runs").exists()
    lines = [line for line in said.splitlines() if line.startswith("memsuite fit ")]
    assert "12 runs, 4,800 environment steps" in said
    status, said = run("suite", suite, "--jobs", "2")
    assert status == 0, said
    assert "[12/12] " in said
    folders = run_folders(tmp_path / "runs" / "tiny")
    assert len(lines) == len(folders) == 12
    line = lines[0].split()[1:]
    out = line.index("--out") + 1
    suites_own, line[out] = tmp_path / line[out], str(tmp_path / "by_hand")
    assert run(*line)[0] == 0
    assert_same(end_state(suites_own), end_state(tmp_path / "by_hand"))


def test_a_run_that_fit_made_by_hand_counts(run, tmp_path):
    suite = write_suite(tmp_path, grid=ONE_TASK)
    first, second = read_suite(suite).runs
    assert run("fit", *first.arguments)[0] == 0
    assert (store.look(first).kind, store.look(second).kind) == ("finished", "new")
    status, said = run("suite", suite)
    assert status == 0, said
    assert "1 of 2 runs were finished before" in said


def test_a_run_with_other_settings_is_told_and_redone_only_if_asked(run, tmp_path):
    assert run("suite", write_suite(tmp_path, grid=ONE_TASK))[0] == 0
    folder = tmp_path / "runs" / "tiny" / "delayed_cue-medium-H10" / "gru" / "seed1"
    before = (folder / "result.json").read_bytes()
    write_suite(tmp_path, grid=ONE_TASK, exclude=[])
    change = [
        {"when": {"seed": [0, 1]}, "settings": {"task_args": {"num_cues": 4}}},
        {"when": {"seed": 1}, "settings": {"steps": 800}},
    ]
    suite = write_suite(tmp_path, grid=ONE_TASK, overrides=change)
    status, said = run("suite", suite)
    assert status == 1
    assert "seed1 was made with steps 400, but the suite asks for 800; --overwrite redoes it" in said
    assert said.splitlines()[-1] == "1 of 2 runs finished in runs/tiny, 1 not run"
    assert (folder / "result.json").read_bytes() == before
    kept = (folder.parent / "seed0" / "result.json").stat().st_mtime_ns
    status, said = run("suite", suite, "--overwrite")
    assert status == 0, said
    assert json.loads((folder / "result.json").read_text())["env_steps"] == 800
    assert len((folder / "metrics.csv").read_text().splitlines()) > 20
    assert (folder.parent / "seed0" / "result.json").stat().st_mtime_ns == kept


ONE_RUN = {"task": ["delayed_cue"], "seed": [0]}


@pytest.mark.parametrize("by_hand", [False, True], ids=["by a suite", "by hand"])
def test_a_run_is_kept_if_the_one_that_replaces_it_does_not_begin(run, tmp_path, by_hand):
    suite = write_suite(tmp_path, grid=ONE_RUN)
    (first,) = read_suite(suite).runs
    assert run("fit", *first.arguments)[0] == 0 if by_hand else run("suite", suite)[0] == 0
    folder = tmp_path / first.folder
    kept = [
        path for path in folder.rglob("*") if path.is_file() and path.name not in ("log.txt", "output.txt", ".lock")
    ]
    before = {path: path.read_bytes() for path in kept}
    change = [{"when": {"seed": 0}, "settings": {"init_from": str(tmp_path / "nowhere")}}]
    suite = write_suite(tmp_path, grid=ONE_RUN, exclude=[], overrides=change)
    status, said = run("suite", suite, "--overwrite")
    assert status == 1, said
    assert "failed: delayed_cue-medium-H10/gru/seed0: memsuite fit: error:" in said
    assert {path: path.read_bytes() for path in kept} == before
    assert (folder / "asked.json").exists() is not by_hand
    assert "was made with init_from not set" in run("suite", suite)[1]


def test_a_run_that_is_killed_once_it_has_replaced_another_goes_on_as_itself(run, tmp_path, monkeypatch):
    assert run("suite", write_suite(tmp_path, grid=ONE_RUN))[0] == 0
    suite = write_suite(tmp_path, {"steps": 800, "devices": 1}, grid=ONE_RUN)
    (again,) = read_suite(suite).runs

    class Killed(BaseException):
        """Ends a process without a word."""

    def killed(*_):
        raise Killed

    monkeypatch.setattr("memsuite.callbacks.ProgressBar.on_train_batch_end", killed)
    with pytest.raises(Killed):
        work(again, str(tmp_path), overwrite=True)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert store.look(again).kind == "unfinished"
    status, said = run("suite", suite)
    assert status == 0, said
    assert json.loads((again.folder / "result.json").read_text())["env_steps"] == 800


@pytest.mark.parametrize("steps", [400, 800])
def test_a_run_that_was_extended_by_hand_is_none_of_the_suite(run, tmp_path, steps):
    """Nor of one that asks for as many steps as it has now: its rate fell to 0 and rose again."""
    assert run("suite", write_suite(tmp_path, grid=ONE_RUN))[0] == 0
    (made,) = read_suite(write_suite(tmp_path, {"steps": steps}, grid=ONE_RUN)).runs
    result = json.loads((made.folder / "result.json").read_text())
    result["command"] += " && memsuite fit --ckpt_path last --steps 800"
    result["config"]["steps"] = 800
    (made.folder / "result.json").write_text(json.dumps(result))
    (made.folder / "asked.json").write_text(json.dumps(made.asked))
    assert store.look(made).kind == "other"
    assert 'was made with steps "800, extended"' in store.look(made).line


def test_a_setting_taken_out_of_the_file_is_a_difference(run, tmp_path):
    (first, *_) = read_suite(write_suite(tmp_path, {"num_envs": 8}, grid=ONE_TASK)).runs
    first.folder.mkdir(parents=True)
    store.prepare(first)
    (first.folder / "metrics.csv").write_text("env_steps\n40\n")
    text = (tmp_path / "tiny.yaml").read_text().replace("  num_envs: 8\n", "")
    (tmp_path / "tiny.yaml").write_text(text)
    (first, *_) = read_suite(tmp_path / "tiny.yaml").runs
    state = store.look(first)
    assert state.kind == "other"
    assert state.line.endswith("was made with num_envs 8, but the suite asks for not set")


def test_a_failure_is_told_with_its_line_and_tried_once_more(run, tmp_path):
    suite = write_suite(tmp_path, grid=ONE_TASK)
    _, second = read_suite(suite).runs
    (second.folder / "metrics.csv").mkdir(parents=True)  # a folder in the place of a file, so that no run can write it
    status, said = run("suite", suite)
    assert status == 1
    assert "seed1 holds files of a run, but no config.yaml with its settings; --overwrite redoes it" in said
    store.name(second)
    status, said = run("suite", suite)
    assert status == 1
    assert "failed: delayed_cue-medium-H10/gru/seed1: memsuite fit: error: cannot write the run folder" in said
    assert said.splitlines()[-1] == "1 of 2 runs finished in runs/tiny, 1 failed"
    assert store.look(second).kind == "failed"
    (second.folder / "metrics.csv").rmdir()
    status, said = run("suite", suite)
    assert status == 0, said
    assert "trying again: delayed_cue-medium-H10/gru/seed1, which failed: memsuite fit: error: cannot write" in said
    assert not (second.folder / "failed.txt").exists()


def test_a_run_whose_folder_cannot_be_made_fails_and_the_others_run(run, tmp_path):
    suite = write_suite(tmp_path, grid=ONE_TASK)
    first, second = read_suite(suite).runs
    first.folder.parent.mkdir(parents=True)
    first.folder.write_text("a file")
    status, said = run("suite", suite)
    assert status == 1
    assert f"failed: {first.id}: cannot make the folder {first.folder}: File exists" in said
    assert store.look(second).kind == "finished"


def test_a_reason_that_is_cut_inside_a_letter_is_read_all_the_same(run, tmp_path):
    suite = write_suite(tmp_path, grid=ONE_TASK)
    first, _ = read_suite(suite).runs
    store.prepare(first)
    (first.folder / "failed.txt").write_bytes(b"cannot read runs/\xc3")
    assert store.look(first) == store.State("failed", "cannot read runs/\N{REPLACEMENT CHARACTER}")


def test_a_traceback_is_told_by_its_last_line(tmp_path):
    (tmp_path / "output.txt").write_text("before\nTraceback (most recent call last):\n  File\nOSError: no\n\n")
    store.record_failure(tmp_path)
    assert (tmp_path / "failed.txt").read_text() == "OSError: no\n"


def test_progress_is_the_last_whole_row(tmp_path):
    assert store.env_steps(tmp_path) == 0
    (tmp_path / "metrics.csv").write_text("env_steps,a\n")
    assert store.env_steps(tmp_path) == 0
    (tmp_path / "metrics.csv").write_text("env_steps,a\n" + "40,1\n80,2\n" * 1000 + "12")
    assert store.env_steps(tmp_path) == 80


def test_a_signal_saves_what_runs_and_says_how_to_go_on(tmp_path):
    suite = write_suite(tmp_path, {"steps": 4_000_000, "checkpoint_every": 1_000_000}, grid=ONE_TASK)
    process = SuiteProcess(suite, "--jobs", "2", cwd=tmp_path)
    while sum(store.env_steps(path) > 0 for path in run_folders(tmp_path).values()) < 2:
        assert process.process.poll() is None, process.output.read_text()
        time.sleep(0.05)
    everyone = [*children_of(process.pid), *process.workers()]
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    status, said = process.end(60)
    assert status == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1].endswith(f"go on with: memsuite suite {suite} --jobs 2")
    assert all_gone(everyone)
    for folder in run_folders(tmp_path).values():
        assert (folder / "checkpoints" / "last.ckpt").is_file()
        assert not (folder / "failed.txt").exists()


def test_a_signal_before_anything_runs_is_one_line(tmp_path):
    process = SuiteProcess(write_suite(tmp_path), cwd=tmp_path)
    while len(children_of(process.pid)) < 2:  # the fork server is importing
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    status, said = process.end(60)
    assert (status, said) == (130, "memsuite suite: interrupted\n")
    assert not (tmp_path / "runs").exists()


def test_a_run_whose_process_is_killed_is_gone_on_with(run, tmp_path):
    suite = write_suite(tmp_path, {"steps": 8000}, {"task": ["delayed_cue"], "seed": [0]})
    process = SuiteProcess(suite, cwd=tmp_path)
    folder = tmp_path / "runs" / "tiny" / "delayed_cue-medium-H10" / "gru" / "seed0"
    while store.env_steps(folder) < 1000:
        assert process.process.poll() is None, process.output.read_text()
        time.sleep(0.02)
    process.kill("worker", lambda workers: workers[0])
    status, said = process.end()
    assert status == 0, said
    assert "gru/seed0: killed by SIGKILL; continuing it" in said
    assert run("suite", suite, "--out", "whole")[0] == 0
    assert_same(end_state(next(iter(run_folders(tmp_path / "whole").values()))), end_state(folder))


def test_a_run_that_another_process_works_on_is_waited_for(run, tmp_path):
    suite = write_suite(tmp_path, grid=ONE_TASK)
    process = SuiteProcess(suite, "--jobs", "1", cwd=tmp_path)
    while not process.workers():
        time.sleep(0.02)
    status, said = run("suite", suite, "--jobs", "2")
    other_status, other_said = process.end()
    assert (status, other_status) == (0, 0), said + other_said
    for folder in run_folders(tmp_path).values():
        starts = (folder / "log.txt").read_text().count("memsuite fit --task")
        assert starts == 1, "a run was made twice"


def test_a_lock_ends_with_its_holder(tmp_path):
    with store.locked(tmp_path / "x") as had:
        assert had
        assert store.is_held(tmp_path / "x")
        with store.locked(tmp_path / "x", patience=0.1) as again:
            assert not again
    assert not store.is_held(tmp_path / "x")
    assert not store.is_held(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_run_of_somebodys_own_is_seen(tmp_path):
    with own_folder(tmp_path / "x", resuming=False, overwrite=False):
        assert store.is_held(tmp_path / "x")
    assert not store.is_held(tmp_path / "x")


def test_a_look_at_a_lock_does_not_turn_its_owner_away(tmp_path):
    """The check takes the lock for a moment; a process that needs the lock waits for it."""
    with (tmp_path / "log.txt").open("a") as looking, ThreadPoolExecutor(1) as pool:
        assert system.lock(looking, 0.0)
        pool.submit(lambda: (time.sleep(0.2), looking.close()))
        with own_folder(tmp_path, resuming=True, overwrite=False):
            pass
