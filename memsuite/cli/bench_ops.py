"""``memsuite bench --ops``: each op, forward and backward, against its PyTorch reference and PyTorch's own layers.

One thread, CPU time, medians of interleaved repeats, so that a busy machine slows both sides alike. The share of the
machine is of a float32 matrix product (1024 cubed) for the products of a GRU, and of a copy of 64 MB for ops that only
pass over memory; both are measured in the same run. ``nn.GRU`` and ``nn.LSTM`` know no resets: theirs is easier work,
and includes the input products, of input width 1.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from memsuite import ops

WIDTH, STATES, RESETS = 128, 16, 0.01
BLOCKS = ((200, 16), (1000, 16), (5000, 4))  # steps, environments: minibatches as training makes them
Work = Callable[[], Any]


def bench_ops(repeats: int) -> dict[str, Any]:
    """Measure every op at every size of :data:`BLOCKS`."""
    roof = {"product_gflops": 2 * 1024**3 / _best(_product()) / 1e9, "copy_gb_per_s": 2 * 2**26 / _best(_copy()) / 1e9}
    compiled = ops._build.STATUS
    rows = [_row(name, *block, repeats, roof) for name in CASES for block in BLOCKS]
    return {"compiled": compiled.library is not None, "reason": compiled.reason, "roof": roof, "rows": rows}


def _row(name: str, steps: int, batch: int, repeats: int, roof: dict[str, float]) -> dict[str, Any]:
    op, make, layer = CASES[name]
    inputs = make(steps, batch)
    sides = {"op": _through_autograd(op, inputs), "reference": _reference(op, inputs)}
    if layer is not None:
        sides["layer"] = _layer(layer, steps, batch)
    times = _interleaved(sides, repeats)
    row: dict[str, Any] = {"op": name, "steps": steps, "batch": batch, "width": WIDTH}
    row |= {f"{side}_ms": 1000 * seconds for side, seconds in times.items()}
    row["reference_ratio"] = times["reference"] / times["op"]
    if layer is not None:
        row["layer_ratio"] = times["layer"] / times["op"]
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


def _drawn(*shape: int, kind: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=kind)


def _resets(steps: int, batch: int) -> Tensor:
    return torch.rand(steps, batch) < RESETS


def _pscan(steps: int, batch: int) -> list[Tensor]:
    return [_drawn(steps, batch, WIDTH), _resets(steps, batch), _drawn(batch, WIDTH)]


def _gru(steps: int, batch: int) -> list[Tensor]:
    weights = _drawn(3 * WIDTH, WIDTH) / WIDTH**0.5
    return [_drawn(steps, batch, 3 * WIDTH), _resets(steps, batch), _drawn(batch, WIDTH), weights, _drawn(3 * WIDTH)]


def _lstm(steps: int, batch: int) -> list[Tensor]:
    states = [_drawn(batch, WIDTH), _drawn(batch, WIDTH)]
    weights = [_drawn(4 * WIDTH, WIDTH) / WIDTH**0.5, _drawn(4 * WIDTH)]
    return [_drawn(steps, batch, 4 * WIDTH), _resets(steps, batch), *states, *weights]


def _lru(steps: int, batch: int) -> list[Tensor]:
    decay = torch.polar(torch.full([WIDTH], 0.99), torch.rand(WIDTH))
    drive, h0 = _drawn(steps, batch, WIDTH, kind=decay.dtype), _drawn(batch, WIDTH, kind=decay.dtype)
    return [decay, drive, _resets(steps, batch), h0]


def _mingru(steps: int, batch: int) -> list[Tensor]:
    return [torch.rand(steps, batch, WIDTH), *_pscan(steps, batch)]


def _selective(steps: int, batch: int) -> list[Tensor]:
    wide = [_drawn(steps, batch, WIDTH), 0.1 * torch.rand(steps, batch, WIDTH), -torch.rand(WIDTH, STATES)]
    narrow = [_drawn(steps, batch, STATES), _drawn(steps, batch, STATES)]
    return [*wide, *narrow, _resets(steps, batch), _drawn(batch, WIDTH, STATES)]


# What each op is drawn from, and the layer of PyTorch's that does nearly the same.
CASES: dict[str, tuple[str, Callable[[int, int], list[Tensor]], type[nn.RNNBase] | None]] = {
    "pscan": ("pscan", _pscan, None),
    "diagonal_scan, varying": ("diagonal_scan", _mingru, None),
    "diagonal_scan, complex": ("diagonal_scan", _lru, None),
    "gru_scan": ("gru_scan", _gru, nn.GRU),
    "lstm_scan": ("lstm_scan", _lstm, nn.LSTM),
    "selective_scan": ("selective_scan", _selective, None),
}
# How often forward and backward read or write an array of the size of the states, at the least.
PASSES = {"pscan": 5, "diagonal_scan, varying": 9, "diagonal_scan, complex": 5}


def _through_autograd(op: str, inputs: list[Tensor]) -> Work:
    """Return the public function, forward and backward, with a gradient for every input."""
    leaves = [x.clone().requires_grad_(x.dtype != torch.bool) for x in inputs]
    wanted = [x for x in leaves if x.requires_grad]
    function = getattr(ops, op)

    def work() -> Any:
        found = function(*leaves)
        out = found if isinstance(found, Tensor) else found[0]
        return torch.autograd.grad(out, wanted, torch.ones_like(out))

    return work


def _reference(op: str, inputs: list[Tensor]) -> Work:
    """Return the PyTorch reference, forward and backward, called past the dispatcher."""
    module = sys.modules[f"memsuite.ops.{op}"]

    def work() -> Any:
        found = module._forward(*inputs)
        saved = (found,) if isinstance(found, Tensor) else found
        grad = torch.ones_like(saved[0])
        return module._backward(*_BACKWARD[op](grad, inputs, saved))

    return work


_BACKWARD: dict[str, Callable[[Tensor, list[Tensor], tuple[Tensor, ...]], list[Tensor | None]]] = {
    "pscan": lambda grad, inputs, saved: [grad, saved[0], inputs[1]],
    "diagonal_scan": lambda grad, inputs, saved: [grad, inputs[0], saved[0], *inputs[2:]],
    "gru_scan": lambda grad, inputs, saved: [grad, *saved, *inputs[1:4]],
    "lstm_scan": lambda grad, inputs, saved: [grad, None, *saved, *inputs[1:5]],
    "selective_scan": lambda grad, inputs, saved: [grad, torch.zeros_like(saved[2]), *inputs[:6], saved[1]],
}


def _layer(kind: type[nn.RNNBase], steps: int, batch: int) -> Work:
    layer, x = kind(1, WIDTH), torch.randn(steps, batch, 1, requires_grad=True)  # type: ignore[arg-type, call-arg]

    def work() -> Any:
        out = layer(x)[0]
        return torch.autograd.grad(out, [x, *layer.parameters()], torch.ones_like(out))

    return work


def ops_table(report: dict[str, Any]) -> Table:
    """Return the table of a report's rows."""
    title = "Ops, forward and backward, width 128" + ("" if report["compiled"] else " (nothing compiled)")
    roof = f"product {report['roof']['product_gflops']:.0f} GFLOP/s, copy {report['roof']['copy_gb_per_s']:.1f} GB/s"
    columns = ("op", "steps", "batch", "ms", "reference", "nn.GRU, nn.LSTM", "share of the machine")
    table = Table(*columns, title=title, caption=roof)
    for row in report["rows"]:
        ratios = [f"{row[key]:.2f}x" if key in row else "" for key in ("reference_ratio", "layer_ratio")]
        share = f"{100 * row['share']:.0f}%" if "share" in row else ""
        table.add_row(row["op"], str(row["steps"]), str(row["batch"]), f"{row['op_ms']:.2f}", *ratios, share)
    return table
