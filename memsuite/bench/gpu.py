"""``memsuite bench gpu``: does everything run on a GPU, with the same numbers as on the host, and how fast?

The measurement has stages, the most valuable first, and the file of ``--out`` is written after every step, so that one
that is cut short leaves what it has found. The steps of a stage run in a process of their own, because to start one
takes longer than most steps. A step that fails, hangs or takes the process with it is reported with the reason, and a
new process goes on with the next: after an access outside of its memory, a GPU refuses the process everything else.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

import torch
from rich.console import Console
from rich.table import Table

from memsuite.bench import STAGES
from memsuite.bench.op_cases import CASES
from memsuite.errors import UsageError

NUM_ENVS = 4096
LIMITS = {"build": 240}  # seconds for a step, where more than LIMIT
LIMIT = 45
START = 45  # seconds more for the first step of a process, which imports everything and wakes the GPU
HARMLESS = ("OutOfMemoryError", "UsageError")  # kinds of errors after which a process is as good as before
CLOSE = 2e-3  # largest difference from the host's numbers in float32, as a share of the largest number


def measure(
    console: Console,
    controllers: list[str],
    stages: list[str],
    horizons: list[int],
    device: str = "cuda",
    num_envs: int = NUM_ENVS,
    keep: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the stages.

    Args:
        console: shows the current step.
        controllers: names of the sequence models, with arguments as in :mod:`memsuite.bench.variants`.
        stages: names of the stages to run, in the order of :data:`STAGES`.
        horizons: lengths of an episode in steps of the training runs.
        device: Lightning's name of the accelerator.
        num_envs: environments of the training runs.
        keep: is given the report after every step.

    Returns:
        The device's name, and for each stage a dict of its steps by name: what was found, or ``failed`` with a reason.

    Raises:
        UsageError: PyTorch finds no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("this needs a GPU that PyTorch can use, but torch.cuda.is_available() is false here")
    report: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else device}
    for stage in [name for name in STAGES if name in stages]:
        found = report.setdefault(stage, {})
        steps = steps_of(stage, controllers, num_envs, horizons)
        with console.status(f"{stage} on {device}") as status:
            for name, row in apart(stage, device, steps):
                found[name] = row
                status.update(f"{stage} on {device}: {len(found)} of {len(steps)}, last {name}")
                keep(report)
    return report


def steps_of(stage: str, controllers: list[str], num_envs: int, horizons: list[int]) -> dict[str, list[str]]:
    """Return the arguments of each step of a stage, by the step's name."""
    if stage == "ops":
        return {name: [name] for name in CASES}
    if stage == "controllers":
        return {name: [name] for name in controllers}
    if stage == "training":
        sizes = [(name, horizon) for horizon in horizons for name in controllers]
        return {f"{name}, H = {horizon}": [name, str(num_envs), str(horizon)] for name, horizon in sizes}
    if stage == "profile":
        return {name: [name, str(num_envs), str(horizons[0])] for name in controllers}
    return {stage: []}


def apart(stage: str, device: str, steps: dict[str, list[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the steps of a stage in a separate process; yield the numbers of each, or the reason for their absence."""
    left, limit = dict(steps), LIMITS.get(stage, LIMIT)
    while left:
        command = [sys.executable, "-m", "memsuite.bench.gpu_steps", stage, device, json.dumps(left)]
        with tempfile.TemporaryFile("w+") as errors:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            lines: queue.Queue[str] = queue.Queue()
            reader = threading.Thread(target=_pass_on, args=(child, lines), daemon=True)
            reader.start()
            row: dict[str, Any] = {}
            patience = limit + START
            while left and not _may_be_spoilt(row):
                row, patience = _next_row(child, lines, errors, patience), limit
                name = next(iter(left))
                del left[name]
                yield name, row
            if _may_be_spoilt(row):
                child.kill()
            child.wait()
            reader.join()


def _may_be_spoilt(row: dict[str, Any]) -> bool:
    """Tell whether what a step found means that its process, or the GPU's part of it, may be of no use to the next."""
    return "failed" in row and not row["failed"].startswith(HARMLESS)


def _next_row(child: subprocess.Popen[str], lines: queue.Queue[str], errors: IO[str], limit: float) -> dict[str, Any]:
    """Return what the next step of a process found, or why there is nothing."""
    try:
        line = lines.get(timeout=limit)
    except queue.Empty:
        child.kill()
        return {"failed": f"not finished after {limit} s"}
    if line:
        return dict(json.loads(line))
    errors.seek(0)
    child.wait()
    said = errors.read().strip().splitlines()
    return {"failed": said[-1][:300] if said else f"the process ended with status {child.returncode}"}


def _pass_on(child: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Pass on the lines of a process that hold a result, then an empty one."""
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            if line.startswith("{"):
                lines.put(line)
    lines.put("")


def table(report: dict[str, Any]) -> Table:
    """Lay out the report: one row for each step, and how many failed as the caption."""
    rows = [(stage, name, row) for stage in STAGES for name, row in report.get(stage, {}).items()]
    bad = [name for _, name, row in rows if "failed" in row or row.get("holds") is False]
    caption = f"{len(rows) - len(bad)} of {len(rows)} steps are as they should be"
    caption += f"; not: {', '.join(bad)}" if bad else ""
    found = Table("stage", "step", "found", title=report["device"], caption=caption)
    for stage, name, row in rows:
        found.add_row(stage, name, row.get("failed") or said(row))
    return found


def said(row: dict[str, Any]) -> str:
    """Return the numbers of a step as text, without those that only the file needs."""
    shown = {name: value for name, value in row.items() if isinstance(value, int | float | str)}
    texts = {name: f"{value:,.4g}" if isinstance(value, float) else str(value) for name, value in shown.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
