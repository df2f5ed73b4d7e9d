"""Runs as SLURM jobs, through submitit; without SLURM, as processes of submitit's local executor.

The jobs continue when the suite is killed. A restarted suite waits for the running jobs. A job that is still queued
ends at once when it starts and finds its run finished or held by another process.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError
from memsuite.shipped import extra
from memsuite.suite.content import Settings
from memsuite.suite.grid import Run
from memsuite.suite.launch import cores
from memsuite.suite.worker import KILLED, work_with_one_thread

try:
    import submitit
    from submitit.helpers import Checkpointable
except ImportError as error:
    raise UsageError(f"--launcher submitit needs submitit: {extra('slurm')}") from error

DEFAULTS = {"timeout_min": 24 * 60, "cpus_per_task": 1, "name": "memsuite"}
MANY = 1000  # number of jobs in the cluster's queue at a time
POLL = {"local": 0.2, "debug": 0.2}  # seconds between two polls; each poll may query SLURM's accounting
POLL_CLUSTER = 5.0


class Job(Checkpointable):  # type: ignore[misc]
    """One run. When it reaches its time limit or is preempted, SLURM queues it again; it then continues."""

    def __call__(self, run: Run, folder: str, overwrite: bool) -> int:
        """Run it; return its exit status."""
        return work_with_one_thread(run, folder, overwrite)


class SlurmLauncher:
    """Runs as SLURM jobs.

    Args:
        settings: parameters of ``submitit.AutoExecutor``, such as ``timeout_min``, ``gpus_per_node`` or
            ``slurm_partition``; and ``cluster``: slurm, local or debug (default: the one that is available).
        folder: the suite's folder; submitit's own files are in its subfolder ``.submitit``.
        jobs: number of jobs in the queue at a time. None means 1000 on a cluster, and the number of cores without one.
        overwrite: replace runs with other settings.

    Raises:
        UsageError: a parameter that submitit does not know.
    """

    def __init__(self, settings: Settings, folder: Path, jobs: int | None, overwrite: bool) -> None:
        parameters: dict[str, Any] = {**DEFAULTS, **settings}
        cluster = parameters.pop("cluster", None)
        try:
            with tempfile.TemporaryDirectory() as elsewhere:  # a first try, so that wrong parameters leave no folder
                submitit.AutoExecutor(folder=elsewhere, cluster=cluster).update_parameters(**parameters)
            self._executor = submitit.AutoExecutor(folder=folder.absolute() / ".submitit" / "%j", cluster=cluster)
            self._executor.update_parameters(**parameters)
        except (NameError, AssertionError, ValueError, RuntimeError, TypeError) as error:
            raise UsageError(f"slurm: {' '.join(str(error).split())}") from error
        here = self._executor.cluster in POLL
        self.capacity, self.overwrite = jobs or (len(cores()) if here else MANY), overwrite
        self._seconds = POLL.get(self._executor.cluster, POLL_CLUSTER)
        self._running: list[tuple[Any, Run]] = []

    def start(self, run: Run) -> None:
        """Submit a run."""
        self._running.append((self._executor.submit(Job(), run, str(Path.cwd()), self.overwrite), run))

    def ended(self) -> list[tuple[Run, int]]:
        """Return the runs whose jobs have ended."""
        time.sleep(self._seconds)
        ended = [pair for pair in self._running if pair[0].done()]
        self._running = [pair for pair in self._running if pair not in ended]
        return [(run, _status(job)) for job, run in ended]

    def stop(self, at_once: bool) -> None:
        """Cancel the jobs. Running jobs get a signal, save and end; SLURM kills them some time later."""
        for job, _ in self._running:
            job.cancel()

    def close(self) -> None:
        """Do nothing: submitit holds no resources."""


def _status(job: Any) -> int:
    try:
        status: int = job.result()
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
        return KILLED
    return status
