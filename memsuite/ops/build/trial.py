"""Calls every op of a library that has just been built, once, forward and backward; an error ends the process.

``MEMSUITE_KERNELS=off python -m memsuite.ops.build.trial cpu|cuda LIBRARY``. The builder runs this in a process of its
own, so that a library which cannot run on this machine ends that process and never enters the cache.
"""

from __future__ import annotations

import os
import sys

import torch
from torch import Tensor

from memsuite import ops
from memsuite.ops.build import cpu, cuda


def main(device: str, library: str) -> None:
    """Load the library for a device, ``cpu`` or ``cuda``, and call its ops there.

    Raises:
        AssertionError: a gradient is not finite.
    """
    # So that the traceback of a kernel that fails, which the log keeps, is of the call that started it.
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"
    (cuda if device == "cuda" else cpu).register(library)
    with torch.device(device):
        h = torch.zeros(3, 4, requires_grad=True)
        _call_scans(h)
        if device == "cpu":
            _call_what_a_gpu_leaves_to_pytorch(h)
            torch.ops.memsuite.bfloat16_products(1)  # where the processor has it; elsewhere the same once more
            _call_scans(h)
            _call_what_a_gpu_leaves_to_pytorch(h)
            torch.ops.memsuite.bfloat16_products(0)
    assert h.grad is not None
    assert h.grad.isfinite().all()


def _call_scans(h: Tensor) -> None:
    """Call the ops that are compiled for the CPU and for CUDA; ``h`` ``[3, 4]`` gets a gradient from each."""
    x, reset = torch.ones(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool)
    gru = ops.gru_scan(torch.ones(2, 3, 12), reset, h, torch.ones(12, 4, requires_grad=True), torch.ones(12))
    states = h.unsqueeze(2).repeat(1, 1, 2)
    selective, _ = ops.selective_scan(x, x, -torch.ones(4, 2), x[..., :2], x[..., :2], reset, states)
    diagonal = ops.diagonal_scan(torch.ones(4), x, reset, h)
    weights = torch.ones(16, 4, requires_grad=True)
    lstm, _ = ops.lstm_scan(torch.ones(2, 3, 16), reset, h, h, weights, torch.ones(16))
    elman = ops.elman_scan(x, reset, h, torch.ones(4, 4, requires_grad=True), torch.ones(4))
    slstm = ops.slstm_scan(torch.ones(2, 3, 16), reset, h, h, h + 1, h, weights, torch.ones(16))[0]
    recurrent = gru + lstm + elman + slstm
    (recurrent + selective + ops.pscan(x, reset, h) + diagonal).sum().backward()  # type: ignore[no-untyped-call]


def _call_what_a_gpu_leaves_to_pytorch(h: Tensor) -> None:
    """Call the ops that are compiled for the CPU only."""
    read = x = torch.ones(2, 3, 4)
    reset = torch.zeros(2, 3, dtype=torch.bool)
    queries, ones, state = torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1), torch.ones(3, 1, 4, 4)
    for decays in (-ones, -queries):
        for rule in ((), (ones,), (None, 0.1 * queries, queries)):
            y, last = ops.matrix_scan(queries, queries, queries, decays, reset, state * h.view(3, 1, 4, 1), *rule)
            now = (None if x is None else x[0] for x in rule)
            after, _ = ops.matrix_step(queries[0], queries[0], queries[0], decays[0], last, *now)
            read = read + y[:, :, 0] + after[:, 0]
    conv = ops.short_conv(read, torch.ones(4, 4), None, torch.zeros(3, 3, 4), reset)
    x = ops.gated_out(conv.unsqueeze(2), x, torch.ones(4, 4), 1e-8, 1) + ops.rms_norm(read, torch.ones(4), 1e-8)
    x = ops.gated_mlp(x, torch.ones(12, 4), torch.ones(4, 6), 1e-8)
    x = ops.wide_linear(ops.skip_out(x, x, x, torch.ones(4), torch.ones(4, 4)), torch.ones(4, 4))
    logits = ops.normed_linear(ops.narrow_linear(x, torch.ones(8, 4, requires_grad=True)), torch.ones(5, 8), 1e-8)
    actions, v = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3)
    log_p = ops.log_prob(logits, actions)
    loss, _ = ops.surrogate(logits, v, actions, log_p, v, log_p, v, 0.2, 0.2, 0.5, 0.1, True)
    loss.backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(*sys.argv[1:])
