"""How the suite handles the ends of its runs, with a simulated launcher; and its display of them."""

import errno
import io
import json
import signal

import pytest
from rich.console import Console
from suites import write_suite

from memsuite.suite import estimate, store
from memsuite.suite.drive import Drive, ending
from memsuite.suite.estimate import Size
from memsuite.suite.grid import read_suite
from memsuite.suite.view import Row, View, outcome
from memsuite.suite.worker import HELD, UNWRITABLE, work

KILLED = -signal.SIGKILL


class Pretended:
    """Ends every run at once, with the next entry of a list: a status, and the number of steps it reached."""

    def __init__(self, endings: dict[int, list[tuple[int, int]]], capacity: int = 2) -> None:
        self.endings, self.capacity = endings, capacity
        self.started: list = []
        self.stops: list = []
        self._running: list = []

    def start(self, run) -> None:
        assert len(self._running) < self.capacity
        self.started.append(run.settings["seed"])
        self._running.append(run)

    def ended(self) -> list:
        ended, self._running = self._running, []
        return [(run, self._end(run)) for run in ended]

    def _end(self, run) -> int:
        endings = self.endings.get(run.settings["seed"], [])
        status, steps = endings.pop(0) if endings else (0, 400)
        store.prepare(run)
        (run.folder / "metrics.csv").write_text(f"env_steps\n{steps}\n")
        if status == 0:
            (run.folder / "result.json").write_text(json.dumps({"success": 1.0}))
        elif 0 < status < UNWRITABLE:
            (run.folder / "output.txt").write_text("why it failed\n")
            store.record_failure(run.folder)
        return status

    def stop(self, at_once: bool) -> None:
        self.stops.append(at_once)

    def close(self) -> None: ...


class EndsBefore(Pretended):
    """Ends a run that replaces another one before that is replaced, where the list says that it reached -1 steps."""

    def _end(self, run) -> int:
        endings = self.endings[run.settings["seed"]]
        if endings and endings[0][1] < 0:
            return endings.pop(0)[0]
        store.name(run)
        return super()._end(run)


@pytest.fixture
def drive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memsuite.suite.drive.AGAIN", 0.01)

    def make(endings, seeds=3, sizes=None, launcher=Pretended, overwrite=False) -> Drive:
        suite = read_suite(write_suite(tmp_path, grid={"task": ["delayed_cue"], "seed": list(range(seeds))}))
        sizes = sizes or [Size(400, 10, "gru", True)] * seeds
        view = View(Console(file=io.StringIO()))
        return Drive(suite.runs, sizes, launcher(endings), view, overwrite)

    return make


def said(drive: Drive) -> str:
    return drive.view.console.file.getvalue()


def test_the_longest_run_begins_first(drive):
    suite = drive({}, sizes=[Size(steps, 10, "gru", True) for steps in (10_000, 30_000, 20_000)])
    suite.run()
    assert suite.launcher.started == [1, 2, 0]
    assert len(suite.finished) == 3


def test_a_run_killed_at_one_place_twice_is_left_alone_and_the_others_go_on(drive):
    suite = drive({1: [(KILLED, 80), (KILLED, 80)]})
    suite.run()
    assert list(suite.failed.values()) == ["killed by SIGKILL, 2 times at the same place; is there enough memory?"]
    assert len(suite.finished) == 2


def test_a_run_that_gets_further_may_be_killed_any_number_of_times(drive):
    suite = drive({1: [(KILLED, steps) for steps in range(40, 400, 40)]})
    suite.run()
    assert not suite.failed
    assert suite.launcher.started.count(1) == 10


def test_a_failure_is_not_tried_again_by_the_same_suite_but_by_the_next(drive):
    suite = drive({0: [(1, 40)], 2: [(2, 0)]})
    suite.run()
    assert list(suite.failed.values()) == ["why it failed"] * 2
    suite = drive({0: [(1, 40)]})
    suite.run()
    assert suite.launcher.started == [0, 2]
    assert said(suite).count("which failed: why it failed") == 2
    assert (len(suite.failed), len(suite.finished)) == (1, 2)


def test_a_run_that_ends_before_it_replaces_another_is_not_taken_for_that(drive):
    """Neither the old run's failure nor its number of steps says anything of the new one."""
    suite = drive({0: [(HELD, -1), (KILLED, -1)]}, seeds=1, launcher=EndsBefore, overwrite=True)
    (run,) = suite.queue
    run.folder.mkdir(parents=True)
    (run.folder / "asked.json").write_text(json.dumps({**run.asked, "steps": 1}))
    (run.folder / "metrics.csv").write_text("env_steps\n10000\n")
    (run.folder / "failed.txt").write_text("an older reason\n")
    assert store.look(run).kind == "other"
    suite.launcher.endings[0] += [(KILLED, 80), (KILLED, 120)]
    suite.run()
    assert not suite.failed, said(suite)
    assert (len(suite.finished), suite.launcher.started.count(0)) == (1, 5)


def test_a_run_that_was_held_is_looked_at_again(drive):
    suite = drive({1: [(HELD, 0), (HELD, 0)]}, seeds=2)
    suite.run()
    assert suite.launcher.started.count(1) == 3
    assert len(suite.finished) == 2


def test_a_run_that_another_suite_makes_differently_meanwhile_is_told(drive):
    suite = drive({1: [(HELD, 0)]}, seeds=2)
    start = suite.launcher.start

    def start_late(run) -> None:
        start(run)
        if suite.launcher.started.count(1) == 2:
            (run.folder / "asked.json").write_text('{"steps": 1}')
            suite.launcher.ended = lambda: [(run, 0)]

    suite.launcher.start = start_late
    suite.run()
    assert len(suite.finished) == 1
    (line,) = suite.other.values()
    assert "was made with checkpoint_every not set" in line


def test_signals_are_passed_on_and_nothing_new_begins(drive):
    suite = drive({}, seeds=6)
    ended, suite.launcher.ended = suite.launcher.ended, list

    def show(*_) -> None:
        signal.raise_signal(signal.SIGTERM)
        if len(suite.launcher.stops) == 2:
            suite.launcher.ended = ended

    suite.view.show = show
    suite.run()
    assert suite.received == signal.SIGTERM
    assert suite.launcher.stops[:2] == [False, True]
    assert len(suite.launcher.started) == 2


def test_how_a_process_ended_is_said_ending():
    assert ending(-9) == "killed by SIGKILL"
    assert ending(143) == "killed by SIGTERM"
    assert ending(255) == "its process ended with status 255"


def test_the_table_of_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with View(console) as view:
        view.show([Row(f"task/gru/seed{i}", 1000 * i, 30_000) for i in range(25)], "3 of 40 finished")
    text = console.file.getvalue()
    for part in ("task/gru/seed7", "7,000 of 30,000", "and 5 more", "3 of 40 finished"):
        assert part in text


def test_lines_now_and_then_where_there_is_no_terminal():
    console = Console(file=io.StringIO())
    with View(console, every_seconds=60) as view:
        view.show([], "too early")
        view._next = 0.0
        view.show([], "now")
        view.show([], "too early")
    assert console.file.getvalue() == "now\n"


def test_an_outcome_in_a_few_words():
    result = {"success": 0.5, "success_low": 0.4, "success_high": 0.6, "wall_seconds": 61.2}
    assert outcome(result) == "success 0.500 (0.400 to 0.600), 61 s"
    returns = {"success": None, "return_mean": 20, "return_low": 10, "return_high": 30, "wall_seconds": 5}
    assert outcome(returns) == "return 20.0 (10.0 to 30.0), 5 s"
    assert outcome({}) == "finished"


def test_estimates_grow_with_steps_and_are_none_for_what_was_never_measured():
    short, long = (estimate.seconds(Size(steps, 200, "mamba", True)) for steps in (100_000, 1_000_000))
    assert 9 < (long - estimate.START) / (short - estimate.START) < 11
    assert estimate.seconds(Size(100_000, 5000, "transformer", True)) > 2 * estimate.seconds(
        Size(100_000, 200, "transformer", True)
    )
    assert estimate.seconds(Size(1000, 200, "my_module.Mine", True)) is None
    assert estimate.weight(Size(1000, 200, "my_module.Mine", True)) > 0
    words = [estimate.in_words(seconds) for seconds in (40, 720, 12_600, 1e6)]
    assert words == ["40 s", "12.0 min", "3.5 h", "11.6 days"]


def test_a_full_disk_is_told_in_one_line(drive, tmp_path, monkeypatch):
    """The process of the run says by its status that the folder takes no files; the suite looks why."""
    (run, *_) = read_suite(write_suite(tmp_path)).runs

    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "locked", full)
        assert work(run, str(tmp_path)) == UNWRITABLE
    assert store.unwritable(tmp_path) == ""
    with monkeypatch.context() as patched:
        patched.setattr(store.tempfile, "TemporaryFile", full)
        one = drive({0: [(UNWRITABLE, 0)]})
        one.run()
    assert one.launcher.started.count(0) == 1
    (line,) = one.failed.values()
    assert line.startswith("cannot write into ")
    assert line.endswith("No space left on device")


def test_a_run_that_is_killed_twice_leaves_its_reason(drive, tmp_path):
    one = drive({0: [(KILLED, 0), (KILLED, 0)]})
    one.run()
    (line,) = one.failed.values()
    assert "is there enough memory?" in line
    (reason,) = tmp_path.rglob("failed.txt")
    assert reason.read_text() == f"{line}\n"


def test_a_number_in_another_spelling_is_the_same_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (run, *_) = read_suite(write_suite(tmp_path, {"steps": 80000})).runs
    run.folder.mkdir(parents=True)
    store.prepare(run)
    (run.folder / "config.yaml").write_text("steps: 80000\n")
    (other, *_) = read_suite(write_suite(tmp_path, {"steps": "8e4"})).runs
    assert store.look(other).kind == "unfinished"
    (another, *_) = read_suite(write_suite(tmp_path, {"steps": "9e4"})).runs
    assert store.look(another).kind == "other"
