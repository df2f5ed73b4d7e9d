"""Shared by tests that start processes: a server that has done the imports of a run, and a free port."""

from __future__ import annotations

import multiprocessing
import socket

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["memsuite.cli.fit", "lightning.pytorch", "torch"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
