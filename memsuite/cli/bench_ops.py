"""``memsuite bench --ops``: each op, forward and backward, against its PyTorch reference and the library's way.

The library's way is ``nn.GRU`` and ``nn.LSTM``, which know no resets (theirs is easier work, and includes the input
products, of input width 1), ``conv1d`` (none either), ``rms_norm`` and ``linear``, ``torch.distributions``, and
``mamba_ssm``'s ``selective_scan_ref`` where that package is. Memory is what is kept for the backward pass, the result
included.

One thread, CPU time, medians of interleaved repeats, so that a busy machine slows both sides alike. The share of the
machine is of a float32 matrix product (1024 cubed) for the products of a GRU, and of a copy of 64 MB for ops that only
pass over memory; both are measured in the same run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich import box
from rich.table import Column, Table
from torch import Tensor

from memsuite import ops
from memsuite.cli.bench_cases import BACKWARD, CASES, PASSES, WIDTH

BLOCKS = ((200, 16), (1000, 16), (5000, 4))  # steps, environments: minibatches as training makes them
Work = Callable[[], Any]


def bench_ops(repeats: int) -> dict[str, Any]:
    """Measure every op at every size of :data:`BLOCKS`."""
    roof = {"product_gflops": 2 * 1024**3 / _best(_product()) / 1e9, "copy_gb_per_s": 2 * 2**26 / _best(_copy()) / 1e9}
    compiled = ops._build.STATUS
    rows = [_row(name, *block, repeats, roof) for name in CASES for block in BLOCKS]
    return {"compiled": compiled.library is not None, "reason": compiled.reason, "roof": roof, "rows": rows}


def _row(name: str, steps: int, batch: int, repeats: int, roof: dict[str, float]) -> dict[str, Any]:
    op, make, library = CASES[name]
    inputs = make(steps, batch)
    forward = {"op": (getattr(ops, op), inputs)}
    other = library(inputs) if library is not None else None
    if other is not None:
        forward["library"] = other
    seen = int(op == "narrow_linear")  # what is observed needs no gradient
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
    """Return copies of the inputs, and those that get a gradient: all numbers but the first ``seen``, observations."""
    leaves = [x.detach().clone() if isinstance(x, Tensor) else x for x in inputs]
    wanted = [x for x in leaves[seen:] if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())]
    return leaves, [x.requires_grad_() for x in wanted]


def _through_autograd(function: Callable[..., Any], inputs: list[Any], seen: int = 0) -> Work:
    """Return a function's forward and backward pass."""
    leaves, wanted = _leaves(inputs, seen)

    def work() -> Any:
        found = function(*leaves)
        out = found if isinstance(found, Tensor) else found[0]
        return torch.autograd.grad(out, wanted, torch.ones_like(out), allow_unused=True)

    return work


def _kept(function: Callable[..., Any], inputs: list[Any], seen: int = 0) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, its result and its inputs included."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        found = function(*_leaves(inputs, seen)[0])
        keep(found if isinstance(found, Tensor) else found[0])
        return sum(kept.values())


def _reference(op: str, inputs: list[Tensor]) -> Work:
    """Return the PyTorch reference, forward and backward, called past the dispatcher."""
    module = sys.modules[f"memsuite.ops.{op}"]

    def work() -> Any:
        found = module._forward(*inputs)
        if op not in BACKWARD:  # its slopes are made on the way
            return found
        saved = (found,) if isinstance(found, Tensor) else found
        grad = torch.ones_like(saved[0])
        return module._backward(*BACKWARD[op](grad, inputs, saved))

    return work


def ops_table(report: dict[str, Any]) -> Table:
    """Return the table of a report's rows."""
    title = "Ops, forward and backward, width 128" + ("" if report["compiled"] else " (nothing compiled)")
    roof = f"product {report['roof']['product_gflops']:.0f} GFLOP/s, copy {report['roof']['copy_gb_per_s']:.1f} GB/s"
    headings = ("steps", "batch", "ms", "reference", "library", "kept MB", "library's", "share")
    columns = [Column("op", no_wrap=True), *(Column(heading, justify="right", no_wrap=True) for heading in headings)]
    note = f"times of the others over the op's; {roof}, of which the share is"
    table = Table(*columns, title=title, caption=note, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in report["rows"]:
        ratios = [f"{row[key]:.2f}x" if key in row else "" for key in ("reference_ratio", "library_ratio")]
        kept = [f"{row[key]:.1f}" if key in row else "" for key in ("op_kept_mb", "library_kept_mb")]
        share = f"{100 * row['share']:.0f}%" if "share" in row else ""
        table.add_row(row["op"], str(row["steps"]), str(row["batch"]), f"{row['op_ms']:.2f}", *ratios, *kept, share)
    return table
