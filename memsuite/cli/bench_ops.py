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
from torch import Tensor, nn
from torch.nn import functional

from memsuite import ops

WIDTH, STATES, HEADS, TAPS, INPUTS, RESETS = 128, 16, 4, 4, 9, 0.01
BLOCKS = ((200, 16), (1000, 16), (5000, 4))  # steps, environments: minibatches as training makes them
Work = Callable[[], Any]
Forward = tuple[Callable[..., Any], list[Any]]  # a function and its arguments


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


def _matrix(steps: int, batch: int) -> list[Any]:
    q, k, v = torch.randn(3, steps, batch, HEADS, WIDTH // HEADS)
    log_decay, s0 = -0.1 * torch.rand(steps, batch, HEADS), torch.randn(batch, HEADS, WIDTH // HEADS, WIDTH // HEADS)
    return [q, functional.normalize(k, dim=-1), v, log_decay, _resets(steps, batch), s0, None]


def _matrix_delta(steps: int, batch: int) -> list[Any]:
    return [*_matrix(steps, batch)[:-1], torch.rand(steps, batch, HEADS)]


def _conv(steps: int, batch: int) -> list[Tensor]:
    filters = [_drawn(WIDTH, TAPS), _drawn(WIDTH)]
    return [_drawn(steps, batch, WIDTH), *filters, _drawn(batch, TAPS - 1, WIDTH), _resets(steps, batch)]


def _narrow(steps: int, batch: int) -> list[Tensor]:
    return [torch.randn(steps, batch, INPUTS), _drawn(WIDTH, INPUTS), _drawn(WIDTH)]


def _normed(steps: int, batch: int) -> list[Any]:
    return [_drawn(steps, batch, WIDTH), _drawn(INPUTS, WIDTH), 1e-8]


def _categorical(steps: int, batch: int) -> list[Tensor]:
    return [_drawn(steps, batch, INPUTS), torch.randint(INPUTS, (steps, batch))]


def _layer(kind: type[nn.RNNBase]) -> Callable[[list[Any]], Forward]:
    """Return what ``nn.GRU`` or ``nn.LSTM`` calls, its parameters among the arguments."""
    layer = kind(1, WIDTH)  # type: ignore[arg-type, call-arg]

    def forward(x: Tensor, *parameters: Tensor) -> Tensor:
        zero = torch.zeros(1, x.shape[1], WIDTH)
        begin = (zero, zero) if kind is nn.LSTM else zero
        run: Any = torch.lstm if kind is nn.LSTM else torch.gru
        return run(x, begin, parameters, True, 1, 0.0, True, False, False)[0]  # type: ignore[no-any-return]

    return lambda inputs: (forward, [torch.randn(*inputs[0].shape[:2], 1), *layer.parameters()])


def _conv1d(inputs: list[Any]) -> Forward:
    """Return the library's convolution, batch first and time last, without resets and what was before."""

    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = functional.conv1d(x.permute(1, 2, 0), weight.unsqueeze(1), bias, padding=TAPS - 1, groups=WIDTH)
        return y[..., : x.shape[0]].permute(2, 0, 1)

    return forward, inputs[:3]


def _rms_norm_and_linear(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return functional.linear(functional.rms_norm(x, x.shape[-1:], eps=eps), weight)


def _distribution(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    distribution = torch.distributions.Categorical(logits=logits, validate_args=False)
    return distribution.log_prob(actions), distribution.entropy()  # type: ignore[no-untyped-call]


def _mamba_ssm(inputs: list[Any]) -> Forward | None:
    """Return the package's own path on a CPU: batch first, channels before time, and without resets."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_ref  # type: ignore[import-not-found]
    except ImportError:
        return None
    u, dt, rates, b, c, _, _ = inputs
    last = [x.permute(1, 2, 0).contiguous() for x in (u, dt, b, c)]
    return selective_scan_ref, [last[0], last[1], rates, last[2], last[3]]


# What each op is drawn from, and what a library offers that does nearly the same.
CASES: dict[str, tuple[str, Callable[[int, int], list[Any]], Callable[[list[Any]], Forward | None] | None]] = {
    "pscan": ("pscan", _pscan, None),
    "diagonal_scan, varying": ("diagonal_scan", _mingru, None),
    "diagonal_scan, complex": ("diagonal_scan", _lru, None),
    "gru_scan": ("gru_scan", _gru, _layer(nn.GRU)),
    "lstm_scan": ("lstm_scan", _lstm, _layer(nn.LSTM)),
    "selective_scan": ("selective_scan", _selective, _mamba_ssm),
    "matrix_scan": ("matrix_scan", _matrix, None),
    "matrix_scan, delta": ("matrix_scan", _matrix_delta, None),
    "short_conv": ("short_conv", _conv, _conv1d),
    "narrow_linear": ("narrow_linear", _narrow, lambda inputs: (functional.linear, inputs)),
    "normed_linear": ("normed_linear", _normed, lambda inputs: (_rms_norm_and_linear, inputs)),
    "categorical": ("categorical", _categorical, lambda inputs: (_distribution, inputs)),
}
# How often forward and backward read or write an array of the size of the states, at the least.
PASSES = {"pscan": 5, "diagonal_scan, varying": 9, "diagonal_scan, complex": 5}


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
        return torch.autograd.grad(out, wanted, torch.ones_like(out))

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
    "matrix_scan": lambda grad, inputs, saved: [grad, torch.zeros_like(saved[2]), *inputs[:5], saved[1], inputs[6]],
    "short_conv": lambda grad, inputs, saved: [grad, *inputs[:2], *inputs[3:]],
    "narrow_linear": lambda grad, inputs, saved: [grad, inputs[0]],
    "normed_linear": lambda grad, inputs, saved: [grad, *inputs[:2], *saved[1:]],
    "categorical": lambda grad, inputs, saved: [grad, torch.zeros_like(grad), *inputs, *saved[1:]],
}


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
