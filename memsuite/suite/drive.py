"""The main loop of a suite: it starts the next run, reads how each run ended, and prints messages about it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from memsuite.suite import store
from memsuite.suite.estimate import Size, weight
from memsuite.suite.grid import Run
from memsuite.suite.launch import Launcher
from memsuite.suite.view import Row, View, outcome
from memsuite.suite.worker import HELD, SIGNALLED, UNWRITABLE

AGAIN = 1.0  # seconds before another look at a run that another process holds
LIVES = 2  # number of killed processes, without progress in between, after which a run has failed


class Drive:
    """Start every unfinished run, and return when all have ended.

    Args:
        runs: the runs.
        sizes: the amount of work of each run.
        launcher: starts the runs.
        view: shows the progress.
        overwrite: redo runs that were made with other settings.

    Attributes:
        finished: results by id.
        failed: the line that explains the failure, by id.
        other: the setting that differs, by id, for runs that were made with other settings.
        received: the number of the signal that stopped the suite, 0 for none.
    """

    def __init__(self, runs: list[Run], sizes: list[Size], launcher: Launcher, view: View, overwrite: bool) -> None:
        self.launcher, self.view, self.overwrite = launcher, view, overwrite
        self.sizes = {run.id: size for run, size in zip(runs, sizes, strict=True)}
        self._weights = {name: weight(size) for name, size in self.sizes.items()}
        self.finished: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.other: dict[str, str] = {}
        self.running: dict[str, Run] = {}
        self.received = 0
        self._to_pass_on = self._passed_on = 0
        self._killed: Counter[str] = Counter()
        self._reached: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._began, self._worked = time.monotonic(), 0.0
        # The longest runs start first, so that no core idles while a long run ends.
        order = sorted(runs, key=lambda run: -self._weights[run.id])
        self.queue = [run for run in order if self._is_to_do(run)]
        self._before = len(self.finished)

    def _is_to_do(self, run: Run) -> bool:
        state = store.look(run)
        if state.kind == "finished":
            self.finished[run.id] = state.result or {}
        elif state.kind == "other" and not self.overwrite:
            self.other[run.id] = state.line
            self.view.line(f"not run: {state.line}; --overwrite redoes it")
        elif state.kind == "failed":
            self.view.line(f"trying again: {run.id}, which failed: {state.line}")
        return run.id not in self.finished and run.id not in self.other

    def run(self) -> None:
        """Run the suite until all runs have ended or a signal has stopped it."""
        if self._before:
            self.view.line(f"{self._before} of {len(self.sizes)} runs were finished before")
        with self._signals():
            while self.running or (self.queue and not self.received):
                if not self.received:
                    self._start()
                if self._to_pass_on > self._passed_on:  # here, because no run is half started at this point
                    self._passed_on += 1
                    self.launcher.stop(at_once=self._passed_on > 1)
                for run, status in self.launcher.ended():
                    self._settle(self.running.pop(run.id), status)
                self.view.show(self._rows(), self._summary())

    def _start(self) -> None:
        """Start as many runs as the launcher has room for."""
        for run in list(self.queue):
            if len(self.running) >= self.launcher.capacity:
                return
            if self._not_before.get(run.id, 0.0) > time.monotonic():
                continue
            self._not_before[run.id] = time.monotonic() + AGAIN
            if store.is_held(run.folder):
                continue
            self.queue.remove(run)
            try:
                run.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                self._fail(run, f"cannot make the folder {run.folder}: {error.strerror}")
                continue
            self.running[run.id] = run
            self.launcher.start(run)

    def _settle(self, run: Run, status: int) -> None:
        """Record how a run ended, from its folder and the exit status of its process."""
        state = store.look(run)
        if state.kind == "finished":
            self.finished[run.id] = state.result or {}
            self._worked += self._weights[run.id]
            self.view.line(f"[{len(self.finished)}/{len(self.sizes)}] {run.id}: {outcome(self.finished[run.id])}")
        elif state.kind == "failed":
            self._fail(run, state.line)
        elif state.kind == "other" and not self.overwrite:  # another suite has made it in the meantime
            self.other[run.id] = state.line
        elif state.kind == "other" and 0 < status < SIGNALLED and status != HELD:  # what it was to replace is kept
            self._fail(run, store.failure(run.folder) or ending(status))
        elif status == HELD:
            self.queue.append(run)
        elif status == UNWRITABLE:
            self._fail(run, store.unwritable(run.folder) or f"could not write into {run.folder}")
        elif not self.received:
            reached = self._reached_by(run)
            self._killed[run.id] = 1 if reached > self._reached.get(run.id, -1) else self._killed[run.id] + 1
            self._reached[run.id] = max(reached, self._reached.get(run.id, -1))
            if self._killed[run.id] < LIVES:
                self.view.line(f"{run.id}: {ending(status)}; continuing it")
                self.queue.insert(0, run)
            else:
                line = f"{ending(status)}, {LIVES} times at the same place; is there enough memory?"
                with contextlib.suppress(OSError):
                    store.record_failure(run.folder, line)
                self._fail(run, line)

    def _reached_by(self, run: Run) -> int:
        """Return the environment steps of a run; those of a run that it has yet to replace do not count."""
        return 0 if self.overwrite and store.look(run).kind == "other" else store.env_steps(run.folder)

    def _fail(self, run: Run, line: str) -> None:
        self.failed[run.id] = line
        self.view.line(f"failed: {run.id}: {line}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Pass SIGINT and SIGTERM on: the first lets the runs save and end, the second ends them at once."""

        def receive(number: int, frame: FrameType | None) -> None:
            self.received = self.received or number
            self._to_pass_on += 1

        before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _rows(self) -> list[Row]:
        """Return the progress of the current runs."""
        held = [run for run in self.running.values() if store.is_held(run.folder)]
        return [Row(run.id, self._reached_by(run), self.sizes[run.id].env_steps) for run in held]

    def _summary(self) -> str:
        """Return one line with the numbers of runs by state and the time left."""
        parts = [f"{len(self.finished)} of {len(self.sizes)} finished", f"{len(self.running)} running"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.other)} with other settings"] if self.other else []
        if self.received:
            return ", ".join([*parts, "saving; a second signal stops at once"])
        return ", ".join([*parts, self.view.time_left(self._left())])

    def _left(self) -> float:
        """Estimate the seconds that are left, corrected by the speed of the suite so far."""
        under_way = {
            name: self._weights[name] * min(1.0, self._reached_by(run) / self.sizes[name].env_steps)
            for name, run in self.running.items()
        }
        all_weight = sum(self._weights[name] for name in [*self.running, *(run.id for run in self.queue)])
        worked = self._worked + sum(under_way.values())
        jobs = min(self.launcher.capacity, max(1, len(self.running)))
        pace = (time.monotonic() - self._began) / worked if worked > 1 else 1 / jobs
        return (all_weight - sum(under_way.values())) * pace


def ending(status: int) -> str:
    """Return a text that says how a process ended."""
    number = -status if status < 0 else status - 128
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(number).name}"
    return f"its process ended with status {status}"
