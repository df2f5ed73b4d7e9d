"""``memsuite bench ops``: each op, forward and backward, against its PyTorch reference and against a library.

The libraries' functions are ``nn.GRU`` and ``nn.LSTM``, ``conv1d``, ``rms_norm`` and ``linear``,
``torch.distributions``, and ``selective_scan_ref`` of ``mamba_ssm`` where that package is installed. The first three
have an easier job, because they do not reset states; the times of ``nn.GRU`` and ``nn.LSTM`` include the products with
an input of width 1. Memory is the memory that a forward pass keeps for the backward pass, including its result.

All times are CPU times of one thread, and medians of interleaved repeats, so that a busy machine slows all sides alike.
The share compares an op with the machine's limit: with a float32 matrix product of 1024 x 1024 for the products of a
GRU, and with a copy of 64 MB for ops that mainly read and write memory. Both are measured in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from memsuite import ops
from memsuite.bench.op_cases import BACKWARD, CASES, PASSES, WIDTH
from memsuite.ops.build import cpu

BLOCKS = ((200, 16), (1000, 16), (5000, 4))  # steps and environments of the minibatches in training
Work = Callable[[], Any]


def measure(console: Console, repeats: int) -> dict[str, Any]:
    """Measure every op at every size of :data:`BLOCKS`.

    Args:
        console: shows which op is being measured.
        repeats: number of measurements of each op, at least 3.
    """
    roof = {"product_gflops": 2 * 1024**3 / _best(_product()) / 1e9, "copy_gb_per_s": 2 * 2**26 / _best(_copy()) / 1e9}
    compiled = cpu.STATUS
    rows = []
    for name in CASES:
        with console.status(f"{name}, compiled and not"):
            rows += [_row(name, *block, repeats, roof) for block in BLOCKS]
    return {"compiled": compiled.library is not None, "reason": compiled.reason, "roof": roof, "rows": rows}


def _row(name: str, steps: int, batch: int, repeats: int, roof: dict[str, float]) -> dict[str, Any]:
    op, make, library = CASES[name]
    inputs = make(steps, batch)
    forward = {"op": (getattr(ops, op), inputs)}
    other = library(inputs) if library is not None else None
    if other is not None:
        forward["library"] = other
    seen = int(op == "narrow_linear")  # the first input of this op is an observation, which needs no gradient
    works = {side: _through_autograd(*call, seen) for side, call in forward.items()}
    times = _interleaved({**works, "reference": _reference(op, inputs)}, repeats)
    row: dict[str, Any] = {"op": name, "steps": steps, "batch": batch, "width": WIDTH}
    row |= {f"{side}_ms": 1000 * seconds for side, seconds in times.items()}
    row |= {f"{side}_kept_mb": _kept(*call, seen) / 1e6 for side, call in forward.items()}
    row |= {f"{side}_ratio": times[side] / times["op"] for side in times if side != "op"}
    if name == "gru_scan":
        row["share"] = 18e-9 * WIDTH**2 * steps * batch / times["op"] / roof["product_gflops"]
    elif name in PASSES:
        size = inputs[-1].element_size() * steps * batch * WIDTH
        row["share"] = PASSES[name] * size / times["op"] / 1e9 / roof["copy_gb_per_s"]
    return row


def _product() -> Work:
    one, other = torch.randn(2, 1024, 1024)
    return lambda: one @ other


def _copy() -> Work:
    source = torch.zeros(2**24)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _seconds(work: Work) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _best(work: Work) -> float:
    work()
    return min(_seconds(work) for _ in range(15))


def _interleaved(sides: dict[str, Work], repeats: int) -> dict[str, float]:
    for work in sides.values():
        work()
    rounds = [{name: _seconds(work) for name, work in sides.items()} for _ in range(max(repeats, 3))]
    return {name: statistics.median(times[name] for times in rounds) for name in sides}


def _leaves(inputs: list[Any], seen: int = 0) -> tuple[list[Any], list[Tensor]]:
    """Return copies of the inputs, and those with a gradient; the first ``seen`` are observations without one."""
    leaves = [x.detach().clone() if isinstance(x, Tensor) else x for x in inputs]
    wanted = [x for x in leaves[seen:] if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())]
    return leaves, [x.requires_grad_() for x in wanted]


def _through_autograd(function: Callable[..., Any], inputs: list[Any], seen: int = 0) -> Work:
    """Return a function that runs a forward and a backward pass."""
    leaves, wanted = _leaves(inputs, seen)

    def work() -> Any:
        found = function(*leaves)
        out = found if isinstance(found, Tensor) else found[0]
        return torch.autograd.grad(out, wanted, torch.ones_like(out), allow_unused=True)

    return work


def _kept(function: Callable[..., Any], inputs: list[Any], seen: int = 0) -> int:
    """Return the number of bytes that a forward pass keeps for the backward pass, including its result and inputs."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        found = function(*_leaves(inputs, seen)[0])
        keep(found if isinstance(found, Tensor) else found[0])
        return sum(kept.values())


def _reference(op: str, inputs: list[Tensor]) -> Work:
    """Return a function that runs the PyTorch reference, forward and backward, without the dispatcher."""

    def work() -> Any:
        found = ops.REFERENCES[op](*inputs)
        if op not in BACKWARD:  # the forward pass of such an op computes the gradients too
            return found
        saved = (found,) if isinstance(found, Tensor) else found
        grad = torch.ones_like(saved[0])
        return ops.REFERENCES[f"{op}_backward"](*BACKWARD[op](grad, inputs, saved))

    return work


def table(report: dict[str, Any]) -> Table:
    """Lay out the report: one row for each op and size."""
    title = "Ops, forward and backward, width 128" + ("" if report["compiled"] else " (nothing compiled)")
    roof = f"product {report['roof']['product_gflops']:.0f} GFLOP/s, copy {report['roof']['copy_gb_per_s']:.1f} GB/s"
    headings = ("steps", "batch", "ms", "reference", "library", "kept MB", "library's", "share")
    columns = [Column("op", no_wrap=True), *(Column(heading, justify="right", no_wrap=True) for heading in headings)]
    note = f"reference and library: their time over the op's; share: of {roof}"
    found = Table(*columns, title=title, caption=note, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in report["rows"]:
        ratios = [f"{row[key]:.2f}x" if key in row else "" for key in ("reference_ratio", "library_ratio")]
        kept = [f"{row[key]:.1f}" if key in row else "" for key in ("op_kept_mb", "library_kept_mb")]
        share = f"{100 * row['share']:.0f}%" if "share" in row else ""
        found.add_row(row["op"], str(row["steps"]), str(row["batch"]), f"{row['op_ms']:.2f}", *ratios, *kept, share)
    return found
