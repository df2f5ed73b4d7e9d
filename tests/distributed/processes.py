"""Functions that run in several processes of one run, and the collection of their results."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from shared_processes import PROCESSES, free_port


def environment(rank: int, port: int) -> dict[str, str]:
    """Return the environment variables that give a process started by hand its rank."""
    return {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _run(function, rank: int, world: int, port: int, path: str, arguments) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if world > 1:
        os.environ.update(environment(rank, port))
    from memsuite.launch.trainer import quiet_lightning

    quiet_lightning()
    torch.save(function(rank, world, *arguments), path)
    os._exit(0)


def run(function, world: int, folder: Path, *arguments) -> list:
    """Run ``function(rank, world, *arguments)`` in ``world`` processes at once; return the results of all."""
    folder.mkdir(parents=True, exist_ok=True)
    port, paths = free_port(), [folder / f"{rank}.pt" for rank in range(world)]
    processes = [
        PROCESSES.Process(target=_run, args=(function, rank, world, port, str(paths[rank]), arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        hangs = process.is_alive()
        if hangs:
            process.kill()
        assert not hangs, "a process hangs"
        assert process.exitcode == 0
    return [torch.load(path, weights_only=False) for path in paths]
