"""Runs as Ray tasks, on this machine or on the cluster that RAY_ADDRESS or ``address`` names.

All nodes must see the folder of the suite under the same path. Ray's workers stay, each with a fork server that has
done the slow imports once; every run is a process of its own, forked from it. When a node dies, Ray starts its tasks
elsewhere, and they continue from the last checkpoint.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError, unknown
from memsuite.shipped import extra
from memsuite.suite.content import Settings
from memsuite.suite.grid import Run
from memsuite.suite.launch import in_a_fork
from memsuite.suite.worker import KILLED

try:
    import ray
except ImportError as error:
    raise UsageError(f"--launcher ray needs Ray: {extra('ray')}") from error

DEFAULTS = {"address": None, "num_cpus": 1, "num_gpus": None, "resources": None, "max_retries": 10}
MANY = 10_000  # number of tasks that Ray may hold in its own queue


class RayLauncher:
    """Runs as tasks of a Ray cluster.

    Args:
        settings: ``address`` of the cluster (default: RAY_ADDRESS, or a new one on this machine), ``num_cpus``,
            ``num_gpus`` (default: 1 if the cluster has any) and ``resources`` of a run, and ``max_retries``, the
            number of times that Ray itself restarts a run whose node or process has died.
        jobs: number of runs handed over at a time; None for all.
        overwrite: replace runs with other settings.

    Raises:
        UsageError: an unknown setting, or no cluster at the address.
    """

    def __init__(self, settings: Settings, jobs: int | None, overwrite: bool) -> None:
        for key in settings:
            if key not in DEFAULTS:
                raise unknown("setting of ray", key, DEFAULTS)
        chosen: dict[str, Any] = {**DEFAULTS, **settings}
        address, retries = chosen.pop("address"), chosen.pop("max_retries")
        self.capacity, self.overwrite = jobs or MANY, overwrite
        self._connected_before = ray.is_initialized()
        try:
            if not self._connected_before:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            if chosen["num_gpus"] is None:
                chosen["num_gpus"] = 1 if ray.cluster_resources().get("GPU") else 0
            # max_calls=0: a worker that uses a GPU would otherwise end with its task. It uses none, its child does.
            self._task = ray.remote(max_calls=0, max_retries=retries)(in_a_fork)
            self._task.options(**chosen)  # raises now if an option is wrong
        except (ConnectionError, ValueError, TypeError, RuntimeError) as error:
            raise UsageError(f"ray: {' '.join(str(error).split())}") from error
        self._options = chosen
        self._running: dict[Any, Run] = {}

    def start(self, run: Run) -> None:
        """Hand a run over to Ray, which starts it where its resources are free."""
        reference = self._task.options(name=run.id, **self._options).remote(run, str(Path.cwd()), self.overwrite)
        self._running[reference] = run

    def ended(self) -> list[tuple[Run, int]]:
        """Return the runs whose tasks have ended."""
        ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0.5)
        return [(self._running.pop(reference), _status(reference)) for reference in ready]

    def stop(self, at_once: bool) -> None:
        """Cancel the tasks: a SIGINT, after which they save and end; or kill them at once."""
        for reference in self._running:
            ray.cancel(reference, force=at_once)

    def close(self) -> None:
        """Leave the cluster; a cluster that was started here ends."""
        if not self._connected_before:
            ray.shutdown()


def _status(reference: Any) -> int:
    try:
        status: int = ray.get(reference)
    except ray.exceptions.RayError:
        return KILLED
    return status
