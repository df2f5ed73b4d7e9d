"""The processes of a run: started here, by torchrun, by srun, or by hand on each node; watched, and ended together.

Every process runs the same command. The first process of a node starts the others of that node, unless somebody did:
then ``LOCAL_RANK`` (torchrun, or by hand) or SLURM's step says so.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy

from memsuite.errors import UsageError
from memsuite.launch.arguments import options
from memsuite.system import die_with_parent

PARENT = "MEMSUITE_PARENT"  # the process that started this one
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
PATIENCE = 15.0  # seconds after which a process that waits for others says so
GRACE = 15.0  # seconds in which a process that lost another ends by itself, with a line of its own


def several(devices: Any, nodes: int) -> bool:
    """Tell whether Trainer's ``devices`` and ``num_nodes`` may mean more than one process."""
    one = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    return nodes != 1 or not one


def place(devices: Any, nodes: int) -> ClusterEnvironment:
    """Return how this process learns its number and where the others are.

    SLURM is asked only for a run of several processes in a step of several tasks: a run of one process within an
    allocation, or one for each task of an array, is its own affair.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if several(devices, nodes) and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        try:
            return SLURMEnvironment(auto_requeue=False)  # its handlers save in mid-iteration
        except RuntimeError as error:
            raise UsageError(f"SLURM: {error}") from error
    return LightningEnvironment()


def choose_devices(config: Namespace, given: list[str]) -> None:
    """Turn ``device`` and ``devices`` into Trainer's settings.

    Args:
        config: all settings.
        given: the command line. Settings of a file may hold what an earlier ``device`` became, so they do not count.

    Raises:
        UsageError: there is no such device, the two contradict each other, or the strategy is one under which a run
            would not be what it says.
    """
    trainer = config.trainer
    for short, name in (("device", "accelerator"), ("devices", "devices")):
        if options(given, f"--{short}") and options(given, f"--trainer.{name}"):
            raise UsageError(f"--{short} sets trainer.{name}; leave one of the two out")
    if config.device != "auto":
        trainer.accelerator, index = device_settings(config.device)
        if index is not None:
            if config.devices not in (None, 1):
                raise UsageError(f"device {config.device} is one device, devices asks for {config.devices}")
            trainer.devices = [index]
    if config.devices is not None and not isinstance(trainer.devices, list):
        trainer.devices = int(config.devices)
    name = trainer.strategy
    if isinstance(name, str) and name not in STRATEGIES and name.startswith(("ddp", "fsdp", "deepspeed")):
        raise UsageError(f"trainer.strategy {name} is not supported; valid: {', '.join(STRATEGIES)}")


def device_settings(device: str) -> tuple[str, int | None]:
    """Translate ``cpu``, ``cuda`` or ``cuda:1`` into Lightning's accelerator and the number of the device, if any."""
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"no device {device!r}; valid: auto, cpu, cuda, cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda is not available to PyTorch here; use --device cpu")
    return kind, int(index) if index else None


def check_processes(trainer: pl.Trainer) -> None:
    """Refuse a number of processes that is not the one that was started, for which the run would wait for ever."""
    environment = trainer._accelerator_connector.cluster_environment
    started = {TorchElasticEnvironment: ("torchrun", "WORLD_SIZE"), SLURMEnvironment: ("srun", "SLURM_STEP_NUM_TASKS")}
    who, variable = started.get(type(environment), ("", ""))
    size = trainer.num_devices * trainer.num_nodes
    if who and int(os.environ[variable]) != size:
        raise UsageError(
            f"{who} started {os.environ[variable]} processes, the run is of {size}: devices {trainer.num_devices} x "
            f"trainer.num_nodes {trainer.num_nodes}; the two must be equal"
        )
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment):
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
        if missing:
            raise UsageError(f"trainer.num_nodes is {trainer.num_nodes}, but {', '.join(missing)} is not set")
    if size == 1:
        rank_zero_only.rank = 0  # type: ignore[attr-defined]  # whatever SLURM's number of this task is
    else:
        # Lightning's handlers wait for the other processes, whatever those do; ours agree between iterations.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def end_with_parent() -> None:
    """End this process when the one that started it does, where the kernel can do that."""
    parent = os.environ.get(PARENT)
    if parent:
        die_with_parent()
        if os.getppid() != int(parent):
            os._exit(1)


@contextmanager
def started(trainer: pl.Trainer, command: list[str], advice: Callable[[], str]) -> Iterator[None]:
    """Have the other processes of this node run the same command for as long as the block; watch them.

    Args:
        trainer: says how many there are.
        command: what follows ``memsuite``.
        advice: says how to go on if one of them is lost.
    """
    environment, strategy = trainer._accelerator_connector.cluster_environment, trainer.strategy
    if trainer.world_size > 1 and environment.local_rank() == 0:
        timer = threading.Timer(PATIENCE, _say_who_is_missing, (trainer.world_size,))
        timer.daemon = True
        timer.start()
    if not isinstance(strategy, DDPStrategy) or environment.creates_processes_externally:
        yield
        return
    before = dict(os.environ)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(_free_port()))
    os.environ["LOCAL_RANK"] = "0"
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "memsuite", *command],
            env={**os.environ, "LOCAL_RANK": str(number), PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C is this process's to hear, and all processes' to agree on
        )
        for number in range(1, trainer.num_devices)
    ]
    over = threading.Event()
    threading.Thread(target=_watch, args=(children, over, advice), daemon=True).start()
    try:
        yield
        _wait(children, GRACE)
    finally:
        over.set()
        _end(children)
        os.environ.clear()
        os.environ.update(before)


def _say_who_is_missing(size: int) -> None:
    """Say what a process waits for that found no others yet; it looks like hanging."""
    if not torch.distributed.is_initialized():
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        os.write(2, f"memsuite: waiting at {where} until all {size} processes of the run are there\n".encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(children: list[subprocess.Popen[bytes]], over: threading.Event, advice: Callable[[], str]) -> None:
    """Once a process is lost, give this one time to notice; if it hangs, end it with a line."""
    while not over.wait(0.2):
        lost = [number for number, child in enumerate(children, 1) if child.poll()]
        if lost and not over.wait(GRACE):
            status = children[lost[0] - 1].returncode
            os.write(2, f"memsuite: process {lost[0]} of the run ended with status {status}; {advice()}\n".encode())
            _end(children)
            os._exit(1)


def _wait(children: list[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, until - time.monotonic()))


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.kill()
        child.wait()
