"""From the queue to the end: which run is next, what became of it, and what is said about it."""

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
from memsuite.suite.worker import HELD

AGAIN = 1.0  # seconds until a run that another process works on is looked at again
LIVES = 2  # processes that may be killed under a run without it getting further


class Drive:
    """Start every run that is not finished, until all have ended.

    Args:
        runs: the runs.
        sizes: how much work each is.
        launcher: what starts them.
        view: what a person sees.
        overwrite: redo runs that were made with other settings.

    Attributes:
        finished: results by id.
        failed: by id, the line that explains it.
        other: by id, what is different in runs that were made with other settings.
        received: the signal that stopped the suite, 0 for none.
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
        # The longest first, so that no core is left without work while a long one ends.
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
        """Run them."""
        if self._before:
            self.view.line(f"{self._before} of {len(self.sizes)} runs were finished before")
        with self._signals():
            while self.running or (self.queue and not self.received):
                if not self.received:
                    self._start()
                if self._to_pass_on > self._passed_on:  # here, where no run is half started
                    self._passed_on += 1
                    self.launcher.stop(at_once=self._passed_on > 1)
                for run, status in self.launcher.ended():
                    self._settle(self.running.pop(run.id), status)
                self.view.show(self._rows(), self._summary())

    def _start(self) -> None:
        """Start what there is room for."""
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
        """See what became of a run whose process has ended."""
        state = store.look(run)
        if state.kind == "finished":
            self.finished[run.id] = state.result or {}
            self._worked += self._weights[run.id]
            self.view.line(f"[{len(self.finished)}/{len(self.sizes)}] {run.id}: {outcome(self.finished[run.id])}")
        elif state.kind == "failed":
            self._fail(run, state.line)
        elif state.kind == "other" and not self.overwrite:  # it was made meanwhile, by another suite
            self.other[run.id] = state.line
        elif status == HELD:
            self.queue.append(run)
        elif not self.received:
            reached = store.env_steps(run.folder)
            self._killed[run.id] = 1 if reached > self._reached.get(run.id, -1) else self._killed[run.id] + 1
            self._reached[run.id] = max(reached, self._reached.get(run.id, -1))
            if self._killed[run.id] < LIVES:
                self.view.line(f"{run.id}: {ending(status)}; going on with it")
                self.queue.insert(0, run)
            else:
                self._fail(run, f"{ending(status)}, {LIVES} times at the same place; is there enough memory?")

    def _fail(self, run: Run, line: str) -> None:
        self.failed[run.id] = line
        self.view.line(f"failed: {run.id}: {line}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Pass SIGINT and SIGTERM on: at the first the runs save and end, at the second they end at once."""

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
        """Return how far the runs under way are."""
        held = [run for run in self.running.values() if store.is_held(run.folder)]
        return [Row(run.id, store.env_steps(run.folder), self.sizes[run.id].env_steps) for run in held]

    def _summary(self) -> str:
        """Count the runs, and say how long it will take."""
        parts = [f"{len(self.finished)} of {len(self.sizes)} finished", f"{len(self.running)} running"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.other)} with other settings"] if self.other else []
        if self.received:
            return ", ".join([*parts, "saving; once more to stop at once"])
        return ", ".join([*parts, self.view.time_left(self._left())])

    def _left(self) -> float:
        """Return the seconds that are left, by the estimates and what they have been worth so far."""
        under_way = {
            name: self._weights[name] * min(1.0, store.env_steps(run.folder) / self.sizes[name].env_steps)
            for name, run in self.running.items()
        }
        all_weight = sum(self._weights[name] for name in [*self.running, *(run.id for run in self.queue)])
        worked = self._worked + sum(under_way.values())
        jobs = min(self.launcher.capacity, max(1, len(self.running)))
        pace = (time.monotonic() - self._began) / worked if worked > 1 else 1 / jobs
        return (all_weight - sum(under_way.values())) * pace


def ending(status: int) -> str:
    """Say how a process ended."""
    number = -status if status < 0 else status - 128
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(number).name}"
    return f"its process ended with status {status}"
