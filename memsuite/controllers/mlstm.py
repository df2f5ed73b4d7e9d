"""The mLSTM of xLSTM (Beck et al. 2024, arXiv 2405.04517): a matrix memory with exponential input gates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear
from memsuite.controllers.init import bind_, log_uniform_times
from memsuite.controllers.matrix_memory import Aside, Drive, HeadNorm, MatrixMemory
from memsuite.controllers.stack import stacked
from memsuite.controllers.windows.positions import last_true
from memsuite.ops import wide_linear
from memsuite.ops.fused.gated_out import SIGMOID

# A larger stabiliser would overflow in single precision; the 1 in the maximum is then far too small to matter.
MAX_EXPONENT = 60.0


class MLSTMLayer(MatrixMemory):
    r"""mLSTM: heads whose matrix decays, and is written through exponential input gates.

    .. math::
        C_t = f_t C_{t-1} + i_t v_t k_t^\top, \quad n_t = f_t n_{t-1} + i_t k_t, \quad
        i_t = e^{\tilde i_t}, \quad f_t = \sigma(\tilde f_t) \\
        \tilde h_t = \frac{C_t q_t}{\max(|n_t^\top q_t|, 1)}, \quad
        h_t = W_o (\sigma(W_{og} x_t + b_{og}) \odot \mathrm{norm}(\tilde h_t))

    with keys divided by the square root of their dimension. The queries have a bias, keys and values have none: a
    blank input then writes nothing but still gets an answer. To avoid overflow of the exponentials, the state holds
    :math:`C_t e^{-m_t}` and :math:`n_t e^{-m_t}` with :math:`m_t = \max(\log f_t + m_{t-1}, \tilde i_t)`. The output
    does not depend on :math:`m`, so no gradient goes through it. The norm of each head removes the denominator again.
    Blank steps write nothing to :math:`n` and so do not enlarge the denominator; waiting alone does not shrink the
    output.

    State, with ``D = input_dim``: ``D (D / num_heads + 1)`` floats, with :math:`n` as the matrix's last column, and
    ``num_heads`` for :math:`m`. Cost per step: ``5 D^2 + 2 D^2 / num_heads`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The forget gates' biases are
            then the logarithms of times between one and four H. None for the paper's biases, 3 to 6.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
        binding: whether the map of the queries begins as that of the keys, so that a repeated item retrieves what was
            shown with it before anything is learnt, as in ``gated_deltanet``.
    """

    abilities = Abilities("matrix", by_input=True)

    def __init__(
        self, input_dim: int, memory_horizon: int | None = None, num_heads: int = 4, binding: bool = False
    ) -> None:
        super().__init__(input_dim, num_heads, extra=1)
        width = input_dim
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.empty(width).uniform_(-1, 1))  # about as large as the query of an input
        self.input_gate, self.forget_gate = Linear(width, num_heads), Linear(width, num_heads)
        self.output_gate = Linear(width, width)
        self.norm = HeadNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            for gate in (self.input_gate, self.forget_gate):
                gate.weight.zero_()
            self.input_gate.bias.zero_()
            if memory_horizon is None:
                self.forget_gate.bias.copy_(torch.linspace(3, 6, num_heads))
            else:
                self.forget_gate.bias.copy_(log_uniform_times(num_heads, memory_horizon))
            if binding:
                bind_(*self.qkv.weight.chunk(3)[:2])
                self.query_bias.mul_(0.3)

    def init_aside(self, batch_size: int, like: Tensor) -> Aside:
        """Return the stabiliser, ``m`` ``[B, num_heads]``."""
        return {"m": like.new_zeros(batch_size, self.num_heads)}

    def drive(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> tuple[Drive, Aside]:
        """Fold the stabiliser into the decays, keys and queries; the values get a column of ones."""
        dtype = self.out.weight.dtype
        parts = zip(self.qkv.weight.chunk(3), (self.query_bias, None, None), strict=True)
        q, k, v = (self.heads(wide_linear(x, part, bias).to(dtype)) for part, bias in parts)
        log_i, log_f = self.input_gate(x).to(dtype), logsigmoid(self.forget_gate(x).to(dtype))
        before, m = stabilisers(log_i.detach(), log_f.detach(), aside["m"].detach(), is_first_TB)
        k = k * ((log_i - m).exp() * self.key_dim**-0.5).unsqueeze(-1)
        q = q * m.clamp(max=MAX_EXPONENT).exp().unsqueeze(-1)
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
        return Drive(q, k, v, log_f + before - m), {"m": m if is_first_TB is None else m[-1]}

    def read(self, y: Tensor, x: Tensor) -> Tensor:
        """Divide by the normaliser, normalise, gate and mix the heads."""
        h = y[..., :-1] / y[..., -1:].abs().clamp(min=1)
        return self.norm.mixed(h, self.output_gate(x), self.out, SIGMOID)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that decide what is written, what is read, and how long the state is kept."""
        yield from (*self.qkv.parameters(), self.query_bias)
        for gate in (self.input_gate, self.forget_gate):
            yield from gate.parameters()


MLSTM = stacked(MLSTMLayer)


def stabilisers(log_i: Tensor, log_f: Tensor, m: Tensor, is_first_TB: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""Solve :math:`m_t = \max(\log f_t + m_{t-1}, \log i_t)`, with :math:`m = 0` before a reset step.

    Args:
        log_i: ``[T, B, H]``, or ``[B, H]`` for a single step.
        log_f: of the same shape as ``log_i``.
        m: the stabiliser before the first step, ``[B, H]``.
        is_first_TB: bool ``[T, B]``; None for a single step.

    Returns:
        The stabilisers before each step, with resets applied, and after each step.
    """
    if is_first_TB is None:
        return m, torch.maximum(log_f + m, log_i)
    erase = is_first_TB.unsqueeze(-1)
    # Unrolled, m_t = F_t + max over the episode's steps j of (log i_j - F_j), where F is the running sum of log f. The
    # stabiliser before the sequence enters at its first step. A running maximum over the whole row would include
    # earlier episodes. Candidates are therefore raised by a multiple of their episode's number, so that those of a
    # later episode are above all earlier ones.
    # A gate that is not finite counts as zero, and the stabilisers of the rest of its episode are NaN afterwards.
    lost = ~log_f.isfinite()
    total = log_f.masked_fill(lost, 0).double().cumsum(0)
    incoming = torch.cat([m.unsqueeze(0).double(), torch.zeros_like(total[1:])])
    enters = erase.clone()
    enters[0] = True
    start = torch.where(enters, log_f + incoming.masked_fill(erase, 0), -torch.inf)
    candidates = torch.maximum(start, log_i.double()) - total
    lost |= ~candidates.isfinite()
    candidates = candidates.masked_fill(lost, 0)
    spread = candidates.max() - candidates.min() + 1
    ranked = candidates + erase.cumsum(0) * spread
    best = candidates.gather(0, ranked.cummax(0).indices)
    spoilt = last_true(lost) >= last_true(erase).clamp(min=0)
    after = (total + best).masked_fill(spoilt, math.nan).to(m.dtype)
    return torch.cat([m.unsqueeze(0), after[:-1]]).masked_fill(erase, 0), after
