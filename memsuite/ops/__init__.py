"""Reset-aware recurrences, the only place where time is looped over in training.

Each op is a ``torch.library`` op: schema, fake and autograd formula here in Python, a PyTorch reference as the
implementation that is always there; :mod:`memsuite.ops._build` adds compiled ones for the CPU,
:mod:`memsuite.ops._build_cuda` those for a GPU. Layout is time-major; ``reset[t, b]`` zeroes the state before step
``t``.
"""

import torch

from memsuite.ops import _build
from memsuite.ops._library import states_before
from memsuite.ops.diagonal_scan import diagonal_scan
from memsuite.ops.gated_mlp import gated_mlp
from memsuite.ops.gated_out import gated_out
from memsuite.ops.gru_scan import gru_scan
from memsuite.ops.log_prob import log_prob
from memsuite.ops.lstm_scan import lstm_scan
from memsuite.ops.matrix_scan import matrix_scan, matrix_step
from memsuite.ops.narrow_linear import narrow_linear
from memsuite.ops.normed_linear import normed_linear
from memsuite.ops.pscan import pscan
from memsuite.ops.rms_norm import rms_norm
from memsuite.ops.selective_scan import selective_scan, selective_step
from memsuite.ops.short_conv import short_conv
from memsuite.ops.surrogate import surrogate

__all__ = [
    "diagonal_scan",
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
    "selective_scan",
    "selective_step",
    "short_conv",
    "states_before",
    "surrogate",
]

_build.load()
if torch.version.cuda is not None:  # a torch without CUDA does not even look for a GPU
    from memsuite.ops import _build_cuda

    _build_cuda.load()
