"""Building blocks of several tasks: constants, one-hots, distinct draws, tokens in the delay, random delays."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.types import Script


@functools.cache
@torch.inference_mode(False)
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return a tensor of fixed values, copied to a device only once: the host waits for the device at each copy."""
    return torch.tensor(values, device=device, dtype=dtype)


def integers(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw integers uniform on ``[0, high)``, int64 of ``shape``."""
    return torch.randint(high, shape, generator=generator, device=generator.device)


def uniform_numbers(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw float32 uniform on [0, 1); in the usual kind of number, double precision would draw other episodes."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)


def distinct(count: int, among: int, num_envs: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` different integers of ``[0, among)`` in random order for every environment, ``[count, B]``."""
    order = uniform_numbers((num_envs, among), generator).argsort(1)
    return order[:, :count].T.contiguous()


def show_(channel: Tensor, tokens: Tensor) -> None:
    """Write the one-hots of ``tokens [..]`` into the blank ``channel [.., V]``, in place."""
    channel.scatter_(-1, tokens.unsqueeze(-1), 1.0)


def one_hots(width: int, marks: list[int], device: torch.device) -> Tensor:
    """Return a table of all observations that show one token, with the channels ``marks`` set to 1, ``[width, D]``.

    Looking up rows of the table writes a whole observation at once, several times as fast as scattering into zeros.
    """
    table = torch.eye(width, device=device)
    return table.index_fill_(1, constant(tuple(marks), device), 1.0)


def stream_between(tokens: Tensor, table: Tensor, before: int, after: int) -> Tensor:
    """Return ``[before + T + after, B, D]``: a row of ``table`` for each of ``tokens [T, B]``, with blanks around them.

    Every number is written only once, because writing is the whole cost.
    """
    steps, num_envs = tokens.shape
    observations = torch.empty(before + steps + after, num_envs, table.shape[1], device=table.device)
    observations[:before] = 0.0
    observations[before + steps :] = 0.0
    middle = observations[before : before + steps]
    torch.index_select(table, 0, tokens.flatten(), out=middle.view(-1, table.shape[1]))
    return observations


def blank(horizon: int, num_envs: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return observations ``[T, B, D]``, targets and scored ``[T, B]`` of episodes in which nothing happens."""
    return (
        torch.zeros(horizon, num_envs, width, device=device),
        torch.zeros(horizon, num_envs, dtype=torch.int64, device=device),
        torch.zeros(horizon, num_envs, dtype=torch.bool, device=device),
    )


def check_delay(task: str, delay: int, jitter: int, noise: float = 0.0) -> None:
    """Raise a usage error for a jitter longer than the delay, or for a noise outside 0 to 1."""
    if not 0 <= jitter <= delay:
        raise UsageError(f"{task}: jitter {jitter} is outside 0 to the delay = {delay}")
    if not 0.0 <= noise <= 1.0:
        raise UsageError(f"{task}: noise {noise} is outside 0 to 1")


def add_noise_(delay_TBD: Tensor, tokens: int, noise: float, generator: torch.Generator) -> None:
    """Show one of the first ``tokens`` channels at a step of the delay with probability ``noise``, in place."""
    if not noise:
        return
    token = integers(tokens, tuple(delay_TBD.shape[:2]), generator)
    here = uniform_numbers(tuple(token.shape), generator) < noise
    delay_TBD.scatter_add_(-1, token.unsqueeze(-1), here.unsqueeze(-1).to(delay_TBD.dtype))


def shorten_delay(script: Script, begins: int, jitter: int, generator: torch.Generator) -> Script:
    """Remove 0 to ``jitter`` steps from each environment's delay, which begins at step ``begins``.

    The query then comes earlier by as many steps, and blanks follow it, so that its step cannot be predicted.
    """
    if not jitter:
        return script
    horizon, num_envs = script.scored.shape
    shift = integers(jitter + 1, (num_envs,), generator)
    step = torch.arange(horizon, device=shift.device).unsqueeze(1)
    source = torch.where(step < begins, step, step + shift)
    after = source >= horizon
    source = source.clamp(max=horizon - 1)
    observations = script.observations.gather(0, source.unsqueeze(-1).expand_as(script.observations))
    return Script(
        observations.masked_fill(after.unsqueeze(-1), 0.0),
        script.targets.gather(0, source),
        script.scored.gather(0, source) & ~after,
    )


def mean_over_jitter(success: Callable[[int], float], horizon: int, jitter: int) -> float:
    """Average an expected success over the effective lengths of an episode, ``horizon - jitter`` to ``horizon``."""
    return math.fsum(success(horizon - shift) for shift in range(jitter + 1)) / (jitter + 1)


def token_at(shown_KBV: Tensor, row_B: Tensor, otherwise_B: Tensor) -> Tensor:
    """Return the token in each environment's row of a window ``[B]``; ``otherwise`` for a row before the window."""
    rows = shown_KBV.gather(0, row_B.clamp(min=0).view(1, -1, 1).expand(1, -1, shown_KBV.shape[-1]))[0]
    return torch.where(row_B >= 0, rows.argmax(-1), otherwise_B)


def latest(shown_TB: Tensor) -> Tensor:
    """Return the last step up to each one at which something was shown, ``[T, B]``; 0 where nothing was."""
    steps = torch.arange(len(shown_TB), device=shown_TB.device).unsqueeze(1)
    return (shown_TB * steps).cummax(0).values


def newest(shown_KBV: Tensor, otherwise_B: Tensor) -> Tensor:
    """Return the token that is shown last in a window ``[B]``; ``otherwise`` where none is."""
    order = torch.arange(1, len(shown_KBV) + 1, device=shown_KBV.device).view(-1, 1, 1)
    last = (shown_KBV * order).amax(0)  # [B, V], 0 for a token that is not in the window
    return torch.where(last.amax(-1) > 0, last.argmax(-1), otherwise_B)


def nth(marks_TB: Tensor, index_TB: Tensor) -> Tensor:
    """Return the step of the mark with each index, counted from 0 in every environment, ``[T, B]``."""
    order = (~marks_TB).int().argsort(dim=0, stable=True)  # the steps with marks first
    return order.gather(0, index_TB.clamp(min=0))


def matched(match_NB: Tensor, values_NB: Tensor, otherwise_B: Tensor) -> Tensor:
    """Return the value in the row that matches, ``[B]``; ``otherwise`` if no row matches."""
    found = torch.where(match_NB, values_NB, 0).sum(0)
    return torch.where(match_NB.any(0), found, otherwise_B)


def largest_share(draws: int, values: int) -> float:
    """Return the expected share of the most frequent value among ``draws`` independent uniform ones.

    This is the success of guessing the value of a random pair when all values are known but not their pairs. It follows
    from the exponential generating function: P(none occurs more than m times) = n! / V^n [x^n] (sum_{j <= m} x^j /
    j!)^V.
    """
    none_above = [_chance_none_above(most, draws, values) for most in range(draws + 1)]
    return math.fsum(1.0 - chance for chance in none_above[:-1]) / draws


def _chance_none_above(most: int, draws: int, values: int) -> float:
    product = [1.0] + [0.0] * draws
    for _ in range(values):
        product = [_sum_of_shares(product[: n + 1], most) for n in range(draws + 1)]
    return float(product[draws] * math.factorial(draws) / values**draws)


def _sum_of_shares(product: list[float], most: int) -> float:
    # math.fsum rounds once: the sum of Python rounds differently from version to version.
    return math.fsum(product[-1 - j] / math.factorial(j) for j in range(min(most, len(product) - 1) + 1))
