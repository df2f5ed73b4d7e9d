"""The cases of ``memsuite bench ops``: the inputs of each op, and the closest function of a library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memsuite.ops.fused.gated_out import SILU
from memsuite.ops.fused.wide_linear import PLAIN

WIDTH, STATES, HEADS, TAPS, INPUTS, RESETS = 128, 16, 4, 4, 9, 0.01
STEPPED = 2048  # environments of a step
Forward = tuple[Callable[..., Any], list[Any]]  # a function and its arguments


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


def _elman(steps: int, batch: int) -> list[Tensor]:
    return [*_pscan(steps, batch), _drawn(WIDTH, WIDTH) / WIDTH**0.5, _drawn(WIDTH)]


def _slstm(steps: int, batch: int) -> list[Tensor]:
    drive, reset, *state, weights, biases = _lstm(steps, batch)
    return [drive, reset, *state, torch.rand(batch, WIDTH) + 1, torch.zeros(batch, WIDTH), weights, biases]


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
    return [q, functional.normalize(k, dim=-1), v, log_decay, _resets(steps, batch), s0, None, None, None]


def _matrix_delta(steps: int, batch: int) -> list[Any]:
    return [*_matrix(steps, batch)[:-3], torch.rand(steps, batch, HEADS), None, None]


def _of_channels(drawn: list[Any]) -> list[Any]:
    q, k, v, log_decay, *rest = drawn
    return [q, k, v, log_decay.unsqueeze(-1).expand_as(k).contiguous(), *rest]


def _matrix_channels(steps: int, batch: int) -> list[Any]:
    return _of_channels(_matrix(steps, batch))


def _matrix_delta_channels(steps: int, batch: int) -> list[Any]:
    return _of_channels(_matrix_delta(steps, batch))


def _matrix_edit(steps: int, batch: int) -> list[Any]:
    q, k, v, decays, reset, s0, *_ = _matrix_channels(steps, batch)
    return [q, k, v, decays, reset, s0, None, 0.5 * k, decays.exp() * k]


def _matrix_step(steps: int, batch: int) -> list[Any]:
    """Draw one step of as many environments as share scripts by default, whatever the size of the block."""
    q, k, v, log_decay, _, s0, *_ = _matrix(1, STEPPED)
    return [*(x[0] for x in (q, k, v, log_decay)), s0, None, None, None]


def _matrix_step_edit(steps: int, batch: int) -> list[Any]:
    q, k, v, log_decay, _, s0, _, erase, address = _matrix_edit(1, STEPPED)
    return [*(x[0] for x in (q, k, v, log_decay)), s0, None, erase[0], address[0]]


def _conv(steps: int, batch: int) -> list[Any]:
    filters = [_drawn(WIDTH, TAPS), _drawn(WIDTH)]
    return [_drawn(steps, batch, WIDTH), *filters, _drawn(batch, TAPS - 1, WIDTH), _resets(steps, batch), False]


def _narrow(steps: int, batch: int) -> list[Tensor]:
    return [torch.randn(steps, batch, INPUTS), _drawn(WIDTH, INPUTS), _drawn(WIDTH)]


def _normed(steps: int, batch: int) -> list[Any]:
    return [_drawn(steps, batch, WIDTH), _drawn(INPUTS, WIDTH), 1e-8]


def _norm(steps: int, batch: int) -> list[Any]:
    return [_drawn(steps, batch, WIDTH), _drawn(WIDTH), 1e-8]


def _out(steps: int, batch: int) -> list[Any]:
    y, gate = torch.randn(2, steps, batch, HEADS, WIDTH // HEADS)
    return [y, gate, _drawn(WIDTH, WIDTH), 1e-8, SILU]


def _mlp(steps: int, batch: int) -> list[Any]:
    return [_drawn(steps, batch, WIDTH), _drawn(4 * WIDTH, WIDTH), _drawn(WIDTH, 2 * WIDTH), 1e-8]


def _wide(steps: int, batch: int) -> list[Any]:
    return [_drawn(steps, batch, WIDTH), _drawn(3 * WIDTH, WIDTH), _drawn(3 * WIDTH), PLAIN]


def _skip(steps: int, batch: int) -> list[Any]:
    rows = torch.randn(3, steps, batch, 2 * WIDTH)
    return [*rows, _drawn(2 * WIDTH), _drawn(WIDTH, 2 * WIDTH), None]


def _turned(steps: int, batch: int) -> list[Tensor]:
    size = WIDTH // HEADS
    angle = _drawn(steps, batch, size // 2)
    return [_drawn(steps, batch, HEADS, size), angle.cos(), angle.sin()]


def _window(steps: int, batch: int) -> list[Tensor]:
    q, k, v = torch.randn(3, steps, batch, HEADS, WIDTH // HEADS)
    age = torch.arange(steps).unsqueeze(1).expand(steps, batch).contiguous()  # one episode, all of which is seen
    return [q, k, v, age, None, None, None]  # no biases, no scores by age


def _surrogate(steps: int, batch: int) -> list[Any]:
    logits, (values, *others) = _drawn(steps, batch, INPUTS), torch.randn(5, steps, batch)
    return [logits, values.requires_grad_(), torch.randint(INPUTS, (steps, batch)), *others, 0.2, None, 0.5, 0.01, True]


def _layer(kind: type[nn.RNNBase]) -> Callable[[list[Any]], Forward]:
    """Return the function that ``nn.GRU``, ``nn.LSTM`` or ``nn.RNN`` calls, with the parameters among its arguments."""
    layer = kind(1, WIDTH)  # type: ignore[arg-type, call-arg]

    def forward(x: Tensor, *parameters: Tensor) -> Tensor:
        zero = torch.zeros(1, x.shape[1], WIDTH)
        begin = (zero, zero) if kind is nn.LSTM else zero
        run: Any = {nn.LSTM: torch.lstm, nn.GRU: torch.gru, nn.RNN: torch.rnn_tanh}[kind]
        return run(x, begin, parameters, True, 1, 0.0, True, False, False)[0]  # type: ignore[no-any-return]

    return lambda inputs: (forward, [torch.randn(*inputs[0].shape[:2], 1), *layer.parameters()])


def _conv1d(inputs: list[Any]) -> Forward:
    """Return the library's convolution: batch first and time last, without resets and without earlier inputs."""

    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = functional.conv1d(x.permute(1, 2, 0), weight.unsqueeze(1), bias, padding=TAPS - 1, groups=WIDTH)
        return y[..., : x.shape[0]].permute(2, 0, 1)

    return forward, inputs[:3]


def _rms_norm_and_linear(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return functional.linear(functional.rms_norm(x, x.shape[-1:], eps=eps), weight)


def _plain_mlp(x: Tensor, up: Tensor, down: Tensor, eps: float) -> Tensor:
    gate, top = _rms_norm_and_linear(x, up, eps).chunk(2, dim=-1)
    return x + functional.linear(functional.silu(gate) * top, down)


def _plain_out(y: Tensor, gate: Tensor, weight: Tensor, eps: float, _: int) -> Tensor:
    made = functional.rms_norm(y, y.shape[-1:], eps=eps) * functional.silu(gate)
    return functional.linear(made.flatten(-2), weight)


def _plain_skip(y: Tensor, u: Tensor, z: Tensor, skip: Tensor, weight: Tensor, _: None) -> Tensor:
    return functional.linear((y + skip * u) * functional.silu(z), weight)


def _plain_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def _plain_loss(logits: Tensor, values: Tensor, actions: Tensor, *given: Any) -> Tensor:
    old, _, advantages, returns = (x.detach() for x in given[:4])
    distribution = torch.distributions.Categorical(logits=logits, validate_args=False)
    ratio = (distribution.log_prob(actions) - old).exp()  # type: ignore[no-untyped-call]
    policy = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    bonus = (distribution.entropy() * advantages.abs()).mean()  # type: ignore[no-untyped-call]
    loss: Tensor = 0.25 * (values - returns).square().mean() - policy - 0.01 * bonus
    return loss


def _mamba_ssm(inputs: list[Any]) -> Forward | None:
    """Return the package's function for a CPU: batch first, channels before time, and without resets."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_ref  # type: ignore[import-not-found]
    except ImportError:
        return None
    u, dt, rates, b, c, _, _ = inputs
    last = [x.permute(1, 2, 0).contiguous() for x in (u, dt, b, c)]
    return selective_scan_ref, [last[0], last[1], rates, last[2], last[3]]


# For each case: the op, the function that draws its inputs, and the function that builds the library's call.
CASES: dict[str, tuple[str, Callable[[int, int], list[Any]], Callable[[list[Any]], Forward | None] | None]] = {
    "pscan": ("pscan", _pscan, None),
    "diagonal_scan, varying": ("diagonal_scan", _mingru, None),
    "diagonal_scan, complex": ("diagonal_scan", _lru, None),
    "gru_scan": ("gru_scan", _gru, _layer(nn.GRU)),
    "lstm_scan": ("lstm_scan", _lstm, _layer(nn.LSTM)),
    "elman_scan": ("elman_scan", _elman, _layer(nn.RNN)),
    "slstm_scan": ("slstm_scan", _slstm, None),
    "selective_scan": ("selective_scan", _selective, _mamba_ssm),
    "matrix_scan": ("matrix_scan", _matrix, None),
    "matrix_scan, delta": ("matrix_scan", _matrix_delta, None),
    "matrix_scan, channels": ("matrix_scan", _matrix_channels, None),
    "matrix_scan, delta, channels": ("matrix_scan", _matrix_delta_channels, None),
    "matrix_scan, edit": ("matrix_scan", _matrix_edit, None),
    "matrix_step": ("matrix_step", _matrix_step, None),
    "matrix_step, edit": ("matrix_step", _matrix_step_edit, None),
    "short_conv": ("short_conv", _conv, _conv1d),
    "narrow_linear": ("narrow_linear", _narrow, lambda inputs: (functional.linear, inputs)),
    "normed_linear": ("normed_linear", _normed, lambda inputs: (_rms_norm_and_linear, inputs)),
    "rms_norm": ("rms_norm", _norm, lambda inputs: (functional.rms_norm, [inputs[0], [WIDTH], *inputs[1:]])),
    "gated_out": ("gated_out", _out, lambda inputs: (_plain_out, inputs)),
    "gated_mlp": ("gated_mlp", _mlp, lambda inputs: (_plain_mlp, inputs)),
    "wide_linear": ("wide_linear", _wide, lambda inputs: (functional.linear, inputs[:3])),
    "skip_out": ("skip_out", _skip, lambda inputs: (_plain_skip, inputs)),
    "rotary": ("rotary", _turned, lambda inputs: (_plain_rotation, inputs)),
    "window_attention": ("window_attention", _window, lambda inputs: (_plain_attention, inputs)),
    "surrogate": ("surrogate", _surrogate, lambda inputs: (_plain_loss, inputs)),
}
# The smallest number of times that forward and backward must read or write an array of the size of the states.
PASSES = {"pscan": 5, "diagonal_scan, varying": 9, "diagonal_scan, complex": 5}
# The arguments of a reference's backward pass, for the references that have one.
BACKWARD: dict[str, Callable[[Tensor, list[Tensor], tuple[Tensor, ...]], list[Tensor | None]]] = {
    "pscan": lambda grad, inputs, saved: [grad, saved[0], inputs[1]],
    "diagonal_scan": lambda grad, inputs, saved: [grad, inputs[0], saved[0], *inputs[2:]],
    "gru_scan": lambda grad, inputs, saved: [grad, *saved, *inputs[1:4]],
    "lstm_scan": lambda grad, inputs, saved: [grad, None, *saved, *inputs[1:5]],
    "elman_scan": lambda grad, inputs, saved: [grad, saved[0], *inputs[1:4]],
    "slstm_scan": lambda grad, inputs, saved: [grad, None, None, *saved[:3], saved[4], *inputs[1:5], inputs[6]],
    "selective_scan": lambda grad, inputs, saved: [grad, torch.zeros_like(saved[2]), *inputs[:6], saved[1]],
    "matrix_scan": lambda grad, inputs, saved: [grad, torch.zeros_like(saved[2]), *inputs[:5], saved[1], *inputs[6:]],
    "matrix_step": lambda grad, inputs, saved: [grad, torch.zeros_like(saved[1]), *inputs],
    "short_conv": lambda grad, inputs, saved: [grad, *inputs],
    "narrow_linear": lambda grad, inputs, saved: [grad, inputs[0]],
    "normed_linear": lambda grad, inputs, saved: [grad, *inputs[:2], *saved[1:]],
    "rms_norm": lambda grad, inputs, saved: [grad, *inputs[:2], saved[1]],
    "gated_out": lambda grad, inputs, saved: [grad, *inputs],
    "gated_mlp": lambda grad, inputs, saved: [grad, *inputs[:3], *saved[1:]],
    "wide_linear": lambda grad, inputs, saved: [grad, *inputs[:2], *saved, inputs[3]],
    "skip_out": lambda grad, inputs, saved: [grad, *inputs],
    "rotary": lambda grad, inputs, saved: [grad, *inputs[1:]],
    "window_attention": lambda grad, inputs, saved: [grad, *inputs, *saved],
}
