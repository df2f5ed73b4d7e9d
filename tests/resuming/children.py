"""Runs in separate processes that can be killed, started from a server that has already done the imports."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from shared_processes import PROCESSES, free_port

ROOT = Path(__file__).parents[2]
TINY = [
    "--horizon",
    "10",
    "--num_envs",
    "4",
    "--evaluation_episodes",
    "8",
    "--device",
    "cpu",
    "--controller_args.hidden_dim",
    "8",
]


class SlowFile:
    """Passes an archive on in small pieces, with pauses in which the process can be killed."""

    def __init__(self, file, seconds: float) -> None:
        self.file, self.seconds = file, seconds

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        for start in range(0, len(data), 4096):
            time.sleep(self.seconds)
            self.file.write(data[start : start + 4096])
            self.file.flush()
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _child(
    arguments: list[str],
    errors: str,
    slow_write: float,
    slow_iteration: float,
    started,
    iterations,
    variables: dict[str, str],
) -> None:
    """Run the command in this process; its standard error goes to a file."""
    torch.set_num_threads(1)
    os.environ.update(variables)
    handle = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = sys.stderr = os.fdopen(handle, "w", buffering=1, closefd=False)
    from memsuite.__main__ import main
    from memsuite.module import MemoryPPO

    write, step, begin = torch.save, MemoryPPO.training_step, MemoryPPO.on_train_start
    if slow_write:
        # What processes send each other is saved with options, and not slowed.
        torch.save = lambda content, file, **more: write(content, file if more else SlowFile(file, slow_write), **more)

    def training_step(self, *args):
        time.sleep(slow_iteration)
        iterations.value += 1
        return step(self, *args)

    def on_train_start(self):
        begin(self)
        started.set()

    MemoryPPO.training_step, MemoryPPO.on_train_start = training_step, on_train_start
    status = main(arguments)
    sys.stderr.flush()
    os._exit(status)


class Run:
    """One ``memsuite`` command in a separate process."""

    def __init__(
        self,
        line: str,
        *more: str,
        errors: Path,
        slow_write: float = 0.0,
        slow_iteration: float = 0.0,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.errors, self.started = errors, PROCESSES.Event()
        self.iterations = PROCESSES.Value("i", 0, lock=False)  # a killed process may not keep a lock
        slow = (slow_write, slow_iteration)
        arguments = ([*line.split(), *more], str(errors), *slow, self.started, self.iterations, variables or {})
        self.process = PROCESSES.Process(target=_child, args=arguments)
        self.process.start()

    def wait_for_training(self) -> None:
        """Return once the run trains, or has ended before."""
        while not self.started.wait(0.02) and self.process.is_alive():
            pass

    def wait_for_iteration(self, number: int) -> None:
        """Return once that many iterations have begun since this start, or the run has ended before."""
        while self.iterations.value < number and self.process.is_alive():
            time.sleep(0.001)

    def kill(self, rng: random.Random) -> None:
        """Kill the process; a process that has already ended is left alone."""
        self.process.kill()

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the status (negative: killed by that signal) and what it said."""
        self.process.join(120)
        status = self.process.exitcode
        assert status is not None, "the run hangs"
        self.process.close()
        return status, self.errors.read_text()


class Pair:
    """Two processes that form one run, started by hand; the methods are those of :class:`Run`."""

    def __init__(self, line: str, *more: str, errors: Path, **speed: float) -> None:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
        self.runs = [
            Run(
                line,
                *more,
                "--devices=2",
                errors=errors.with_name(f"{errors.name}{rank}"),
                variables={**place, "LOCAL_RANK": str(rank)},
                **speed,
            )
            for rank in range(2)
        ]

    def wait_for_training(self) -> None:
        for run in self.runs:
            run.wait_for_training()

    def wait_for_iteration(self, number: int) -> None:
        self.runs[0].wait_for_iteration(number)

    def kill(self, rng: random.Random) -> None:
        """Kill both, or only one after they have connected; before that, the other would wait for it for ever."""
        training = all(run.started.is_set() for run in self.runs)
        for run in rng.choice([self.runs, self.runs[:1], self.runs[1:]]) if training else self.runs:
            run.kill(rng)

    def end(self) -> tuple[int, str]:
        """Wait for the end of both; if one was killed, the other must end too, with one line."""
        ends = [run.end() for run in self.runs]
        statuses, said = [status for status, _ in ends], "".join(text for _, text in ends)
        assert "Traceback" not in said, said
        if -signal.SIGKILL not in statuses:
            assert statuses[0] == statuses[1], said
            return statuses[0], said
        for status, text in ends:
            assert status in (0, -signal.SIGKILL) or (status, "another process of this run" in text) == (1, True), text
        return -signal.SIGKILL, said
