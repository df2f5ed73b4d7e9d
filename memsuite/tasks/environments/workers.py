"""Environments in processes of their own, each of which steps a share of the batch."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from memsuite.blame import in_one_line
from memsuite.errors import Stopped, UsageError
from memsuite.imports import COPIES, PLACES
from memsuite.system import count_cpu_seconds
from memsuite.tasks.environments.share import Recipe, Row, Share, Step, import_environment, import_gymnasium

PATIENCE = 5.0  # seconds that a process has to close its environments before it is killed
SERVER = "forkserver"  # starts a process in milliseconds, without the threads of this one


@dataclass(frozen=True)
class Begin:
    """What a worker begins with.

    Attributes:
        recipe: how its environments are made.
        count: number of its environments.
        spec: Gymnasium's record of the environment, pickled; None if it cannot be.
        seed: of the global random generators, which an environment may draw from.
        places: folders in which modules of the user's are found.
        copies: folders with copies of them.
    """

    recipe: Recipe
    count: int
    spec: bytes | None
    seed: int
    places: list[Path]
    copies: list[Path]


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker, as text: the cause of what is raised here."""


class Workers:
    """The environments of a batch, divided evenly among processes; used like a :class:`Share`.

    Args:
        recipe: how the environments are made.
        count: number of environments.
        workers: number of processes; at most one for each environment.
        seed: of the global random generators of the first process; each further one adds 1.

    Raises:
        UsageError: an environment cannot be made.
        Stopped: here and from the methods, for a mistake in an environment or a process that ends.

    Attributes:
        masked: whether an environment has reported allowed actions.
    """

    def __init__(self, recipe: Recipe, count: int, workers: int, seed: int) -> None:
        self.masked, self._who = False, f"gym:{recipe.env_id}"
        parts = torch.arange(count).tensor_split(min(workers, count))
        self._parts = [range(int(part[0]), int(part[-1]) + 1) for part in parts]
        self._links: list[Connection] = []
        self._processes: list[Any] = []
        self._spent = [0.0] * len(parts)  # CPU seconds of each process, as of its last answer
        spec = _pickled_spec(recipe.env_id)
        context: Any = multiprocessing.get_context(
            SERVER if SERVER in multiprocessing.get_all_start_methods() else "spawn"
        )
        if hasattr(context, "set_forkserver_preload"):
            context.set_forkserver_preload([__name__])
        try:
            with _without_main():
                for number, part in enumerate(self._parts):
                    begin = Begin(recipe, len(part), spec, seed + number, list(PLACES), list(COPIES))
                    self._start(context, begin)
            for number in range(len(self._parts)):
                self._receive(number)
        except BaseException:
            self.close()
            raise

    def _start(self, context: Any, begin: Begin) -> None:
        here, there = context.Pipe()
        self._links.append(here)
        process = context.Process(target=work, args=(there, begin), daemon=True)
        try:
            process.start()
        except (pickle.PicklingError, TypeError, AttributeError, OSError) as error:
            raise UsageError(f"{self._who}: a worker cannot be started: {in_one_line(error)}; set workers 0") from error
        finally:
            there.close()
        self._processes.append(process)

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Row]:
        """Begin an episode in the environments that have a seed; return their observations."""
        asked = {number: {at: seeds[at] for at in part if at in seeds} for number, part in enumerate(self._parts)}
        asked = {number: some for number, some in asked.items() if some}
        for number, some in asked.items():
            self._send(number, "reset", {at - self._parts[number].start: seed for at, seed in some.items()})
        found: dict[int, Row] = {}
        for number in asked:
            rows = self._receive(number)
            found |= {at + self._parts[number].start: row for at, row in rows.items()}
        return found

    def step(self, actions: list[Any]) -> list[Step]:
        """Take one step in every environment, in all processes at once."""
        return self._together("step", actions)

    def replay(self, seeds: list[int], actions: list[list[Any]]) -> list[Step]:
        """Begin an episode in every environment and take the given actions; return the last step of each."""
        return self._together("replay", seeds, actions)

    def _together(self, name: str, *lists: list[Any]) -> list[Step]:
        for number, part in enumerate(self._parts):
            self._send(number, name, *(each[part.start : part.stop] for each in lists))
        return [step for number in range(len(self._parts)) for step in self._receive(number)]

    def _send(self, number: int, *message: Any) -> None:
        try:
            self._links[number].send(message)
        except OSError as error:
            raise self._ended(number) from error

    def _receive(self, number: int) -> Any:
        try:
            kind, found, masked, spent = self._links[number].recv()
        except (EOFError, OSError) as error:
            raise self._ended(number) from error
        count_cpu_seconds(spent - self._spent[number])
        self._spent[number] = spent
        if kind == "found":
            self.masked = self.masked or masked
            return found
        text, trace = found
        raise (UsageError if kind == "usage" else Stopped)(text) from WorkerTraceback(trace)

    def _ended(self, number: int) -> Stopped:
        """Return what to raise for a process that has ended by itself."""
        part, process = self._parts[number], self._processes[number]
        process.join(PATIENCE)
        status = process.exitcode
        how = f"was ended by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
        which = f"environment {part.start}" if len(part) == 1 else f"environments {part.start} to {part.stop - 1}"
        return Stopped(f"{self._who}: worker {number}, with {which}, {how}; --task_args.workers 0 shows the mistake")

    def close(self) -> None:
        """End the processes; each closes its environments first."""
        while self._links:
            self._links.pop().close()  # the process reads the end of its messages
        until = time.monotonic() + PATIENCE
        while self._processes:
            process = self._processes.pop()
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not run the user's script again, which they do not need: it may have no guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _pickled_spec(env_id: str) -> bytes | None:
    """Return Gymnasium's record of an environment, for a process in which it is not registered."""
    try:  # Gymnasium brings cloudpickle, which pickles classes of a notebook or a script, too
        pickler: Any = importlib.import_module("cloudpickle")
        return pickler.dumps(import_gymnasium().spec(env_id.rpartition(":")[2]))  # type: ignore[no-any-return]
    except Exception:  # of whatever kind: the process then says that it does not know the environment
        return None


def work(link: Connection, begin: Begin) -> None:
    """Run a share of the environments in this process, by the messages of the parent, until it closes the link."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, too, and ends this process
    threading.Thread(target=_end_after_parent, daemon=True).start()
    PLACES[:], COPIES[:] = begin.places, begin.copies
    random.seed(begin.seed)
    np.random.seed(begin.seed % 2**32)  # noqa: NPY002
    torch.manual_seed(begin.seed)
    share: Share | None = None
    try:
        share = Share(begin.recipe, begin.count, _spec_here(begin))
        link.send(("found", None, share.masked, time.process_time()))
        while True:
            name, *given = link.recv()
            link.send(("found", getattr(share, name)(*given), share.masked, time.process_time()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has closed the link, or has ended
    except (UsageError, Stopped) as error:
        kind = "usage" if isinstance(error, UsageError) else "stopped"
        with contextlib.suppress(OSError):
            link.send((kind, (str(error), traceback.format_exc()), False, time.process_time()))
    finally:
        if share is not None:
            share.close()


def _end_after_parent() -> None:
    """End this process when the one that started it has ended and an environment does not return from its step."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        time.sleep(PATIENCE)
        os._exit(1)


def _spec_here(begin: Begin) -> Any:
    """Return None if the environment is registered in this process; otherwise the record that the parent sent."""
    gymnasium = import_gymnasium()
    name = begin.recipe.env_id.rpartition(":")[2]
    with contextlib.suppress(Exception):  # making the environment raises it again, and says what it is
        import_environment(begin.recipe.env_id)
    return None if name in gymnasium.registry or begin.spec is None else pickle.loads(begin.spec)
