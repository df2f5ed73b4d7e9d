"""The short causal convolution at the input of many state space models, with a state and with resets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memsuite.ops import short_conv


class ShortConv(nn.Conv1d):
    """Depthwise convolution over the last ``width`` steps of the episode; parameters are those of ``nn.Conv1d``.

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

    def run(self, x: Tensor, buffer: Tensor, is_first_TB: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take one step if ``is_first_TB`` is None; otherwise read a whole sequence."""
        return self.step(x, buffer) if is_first_TB is None else self.sequence(x, buffer, is_first_TB)

    def step(self, x_BD: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step; return ``[B, D]`` and the next buffer."""
        window = torch.cat([buffer, x_BD.to(buffer.dtype).unsqueeze(1)], dim=1)
        return self._sum_of_lags(list(reversed(window.unbind(1)))), window[:, 1:]

    def sequence(self, x_TBD: Tensor, buffer: Tensor, is_first_TB: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve ``[T, B, D]``, without crossing resets; return ``[T, B, D]`` and the buffer after the sequence."""
        x = x_TBD.to(buffer.dtype)
        y = short_conv(x, self.weight.squeeze(1), self.bias, buffer, is_first_TB)
        return y, self._buffer_after(x, buffer, is_first_TB)

    def _buffer_after(self, x_TBD: Tensor, buffer: Tensor, is_first_TB: Tensor) -> Tensor:
        """Return the buffer after a sequence: its last inputs, and zeros for steps before the episode."""
        steps, lags = len(x_TBD), self.kernel_size[0] - 1
        latest = torch.cat([buffer.transpose(0, 1), x_TBD[max(0, steps - lags) :]])
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
