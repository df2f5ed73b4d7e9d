"""The ops that dominate training time, in PyTorch and compiled: recurrences over time, and fused small operations.

Each is a ``torch.library`` op. Its schema, fake and autograd formula are in Python, in :mod:`memsuite.ops.scans` or
:mod:`memsuite.ops.fused`, with a PyTorch reference that is always available. :mod:`memsuite.ops.build` adds compiled
implementations for the CPU and for a GPU, with sources in the folder of the same name in ``csrc``. The layout is
time-major; ``reset[t, b]`` zeroes the state before step ``t``.
"""

import torch

from memsuite.ops.build import cpu
from memsuite.ops.fused.gated_mlp import gated_mlp
from memsuite.ops.fused.gated_out import gated_out
from memsuite.ops.fused.log_prob import log_prob
from memsuite.ops.fused.narrow_linear import narrow_linear
from memsuite.ops.fused.normed_linear import normed_linear
from memsuite.ops.fused.rms_norm import rms_norm
from memsuite.ops.fused.rotary import rotary
from memsuite.ops.fused.short_conv import short_conv
from memsuite.ops.fused.skip_out import skip_out
from memsuite.ops.fused.surrogate import surrogate
from memsuite.ops.fused.wide_linear import split_linear, wide_linear
from memsuite.ops.fused.window_attention import window_attention
from memsuite.ops.scans.diagonal_scan import diagonal_scan
from memsuite.ops.scans.elman_scan import elman_scan
from memsuite.ops.scans.gru_scan import gru_scan
from memsuite.ops.scans.lstm_scan import lstm_scan
from memsuite.ops.scans.matrix_scan import matrix_scan
from memsuite.ops.scans.matrix_step import matrix_step
from memsuite.ops.scans.pscan import pscan
from memsuite.ops.scans.resets import states_before
from memsuite.ops.scans.selective_scan import selective_scan, selective_step
from memsuite.ops.scans.slstm_scan import slstm_scan
from memsuite.ops.schema import REFERENCES

__all__ = [
    "REFERENCES",
    "diagonal_scan",
    "elman_scan",
    "gated_mlp",
    "gated_out",
    "gru_scan",
    "log_prob",
    "lstm_scan",
    "matrix_scan",
    "matrix_step",
    "narrow_linear",
    "normed_linear",
    "pscan",
    "rms_norm",
    "rotary",
    "selective_scan",
    "selective_step",
    "short_conv",
    "skip_out",
    "slstm_scan",
    "split_linear",
    "states_before",
    "surrogate",
    "wide_linear",
    "window_attention",
]

_build = cpu  # its name before 0.2.0, under which scripts ask for _build.STATUS
cpu.load()
if torch.version.cuda is not None:  # a torch without CUDA does not look for a GPU
    from memsuite.ops.build import cuda

    cuda.load()
