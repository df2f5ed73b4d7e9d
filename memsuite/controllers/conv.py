"""The short causal convolution at the input of many state space models, with a state and with resets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from memsuite.ops import short_conv


class ShortConv(nn.Conv1d):
    """Depthwise convolution over the last ``width`` steps of the episode, then ``silu``.

    The parameters are those of ``nn.Conv1d``.

    Its state is a buffer ``[B, width - 1, channels]`` of the last inputs, the newest at the end, and zeros for steps
    before the episode. Cost per step: ``channels width`` multiply-adds.
    """

    def __init__(self, channels: int, width: int = 4, bias: bool = True) -> None:
        super().__init__(channels, channels, width, groups=channels, padding=width - 1, bias=bias)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> Tensor:
        """Return an empty buffer."""
        like = self.weight
        shape = batch_size, self.kernel_size[0] - 1, self.in_channels
        return torch.zeros(shape, device=device or like.device, dtype=like.dtype)

    def step(self, x_BD: Tensor, buffer: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take one step; return ``silu`` of the sum, ``[B, D]``, and the next buffer.

        Args:
            x_BD: the input.
            buffer: the inputs before it.
            bias: added to the sum of a convolution without a bias of its own.
        """
        window = torch.cat([buffer, x_BD.to(buffer.dtype).unsqueeze(1)], dim=1)
        y = self._sum_of_lags(list(reversed(window.unbind(1))))
        return silu(y if bias is None else y + bias), window[:, 1:]

    def sequence(
        self, parts: Sequence[Tensor], buffer: Tensor, is_first_TB: Tensor, biases: Sequence[Tensor | None] = ()
    ) -> tuple[list[Tensor], Tensor]:
        """Convolve a sequence without crossing resets, and apply ``silu``.

        Args:
            parts: the input as one tensor or several, ``[T, B, channels]`` each, so that none need be copied to join
                them.
            buffer: the inputs before the sequence, of the joined channels.
            is_first_TB: bool ``[T, B]``.
            biases: a bias for each part; by default those of the convolution.

        Returns:
            The output by part, and the buffer after the sequence.
        """
        parts = [x.to(buffer.dtype) for x in parts]
        sizes = [x.shape[-1] for x in parts]
        weights, befores = torch.split(self.weight.squeeze(1), sizes), torch.split(buffer, sizes, dim=-1)
        if not biases:
            biases = [None] * len(parts) if self.bias is None else torch.split(self.bias, sizes)
        given = zip(parts, weights, biases, befores, strict=True)
        made = [short_conv(x, weight, bias, before, is_first_TB, True) for x, weight, bias, before in given]
        return made, self._buffer_after(parts, buffer, is_first_TB)

    def _buffer_after(self, parts: Sequence[Tensor], buffer: Tensor, is_first_TB: Tensor) -> Tensor:
        """Return the buffer after a sequence: its last inputs, and zeros for steps before the episode."""
        steps, lags = len(parts[0]), self.kernel_size[0] - 1
        last = torch.cat([x[max(0, steps - lags) :] for x in parts], dim=-1)
        latest = torch.cat([buffer.transpose(0, 1), last])
        kept = []
        for age in range(lags, 0, -1):  # from ``age`` steps before the end
            gone = is_first_TB[max(0, steps - age + 1) :].any(0)
            kept.append(latest[-age].masked_fill(gone.unsqueeze(-1), 0))
        return torch.stack(kept, dim=1)

    def _sum_of_lags(self, delayed: list[Tensor]) -> Tensor:
        """Add up the inputs of ``0, 1, ..`` steps ago, each times its weight."""
        taps = self.weight.squeeze(1).unbind(1)[::-1]
        y = delayed[0] * taps[0] if self.bias is None else torch.addcmul(self.bias, delayed[0], taps[0])
        for x, tap in zip(delayed[1:], taps[1:], strict=True):
            y = torch.addcmul(y, x, tap)
        return y
