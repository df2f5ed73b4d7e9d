"""Runs as jobs of SLURM, through submitit; where there is no SLURM, as processes of submitit's local executor.

The jobs go on when the suite is killed. Started again it waits for those that run, and those that still queue find
their run finished, or taken, and end at once.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError
from memsuite.suite.grid import Run, Settings
from memsuite.suite.launch import cores
from memsuite.suite.worker import KILLED, work_with_one_thread

try:
    import submitit
    from submitit.helpers import Checkpointable
except ImportError as error:
    raise UsageError("--launcher submitit needs submitit: pip install 'memsuite[slurm]'") from error

DEFAULTS = {"timeout_min": 24 * 60, "cpus_per_task": 1, "name": "memsuite"}
MANY = 1000  # jobs in the cluster's queue at a time
POLL = {"local": 0.2, "debug": 0.2}  # seconds between two looks; every one may ask SLURM's accounting
POLL_CLUSTER = 5.0


class Job(Checkpointable):  # type: ignore[misc]
    """One run. When its time is up, or it is preempted, SLURM queues it again, and it goes on from its checkpoint."""

    def __call__(self, run: Run, folder: str, overwrite: bool) -> int:
        """Do it; return its status."""
        return work_with_one_thread(run, folder, overwrite)


class SlurmLauncher:
    """Runs as jobs.

    Args:
        settings: parameters of ``submitit.AutoExecutor``, such as ``timeout_min``, ``gpus_per_node`` or
            ``slurm_partition``; and ``cluster``: slurm, local or debug (default: what is there).
        folder: the suite's folder; submitit's own files lie in ``.submitit`` there.
        jobs: jobs in the queue at a time; None for many, and for as many as there are cores without a cluster.
        overwrite: take runs with other settings away.

    Raises:
        UsageError: a parameter that submitit does not know.
    """

    def __init__(self, settings: Settings, folder: Path, jobs: int | None, overwrite: bool) -> None:
        parameters: dict[str, Any] = {**DEFAULTS, **settings}
        cluster = parameters.pop("cluster", None)
        try:
            with tempfile.TemporaryDirectory() as elsewhere:  # where wrong parameters leave nothing behind
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
        """Cancel the jobs: a signal on which those that run save and end, and SLURM's kill some time later."""
        for job, _ in self._running:
            job.cancel()

    def close(self) -> None:
        """Do nothing: submitit keeps nothing open."""


def _status(job: Any) -> int:
    try:
        status: int = job.result()
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
        return KILLED
    return status
