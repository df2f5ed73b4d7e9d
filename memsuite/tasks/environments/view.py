"""What an agent sees of an environment: its observation in numbers, without what is masked, with what it did last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memsuite.errors import UsageError, unknown
from memsuite.tasks.actions import ActionSpace
from memsuite.tasks.environments.share import Row
from memsuite.tasks.environments.spaces import BYTE, SMALLEST, chosen_images, images_in
from memsuite.types import Image

IMAGES = ("convolution", "flatten")
TRUNCATIONS = ("bootstrap", "terminal")
MOST_NUMBERS = 10_000_000  # of one observation, or of the policy at one step; images of video have a tenth of it
MOST_WORKERS = 256  # processes


@dataclass(frozen=True)
class Options:
    """The options of a Gymnasium task, by the names of :class:`~memsuite.tasks.gym_task.GymTask`'s arguments.

    Attributes:
        mask: indices of the flattened observation to leave out.
        previous_action: whether the action just taken is shown.
        previous_reward: whether the reward just received is shown.
        truncation: ``bootstrap`` or ``terminal``.
        image: ``convolution``, ``flatten`` or None.
        workers: number of processes.
    """

    mask: tuple[int, ...]
    previous_action: bool
    previous_reward: bool
    truncation: str
    image: str | None
    workers: int

    def check(self, who: str) -> None:
        """Raise a usage error for an option of another value than it has; ``who`` names the environment."""
        if not all(type(index) is int for index in self.mask):
            raise UsageError(f"{who}: mask is {list(self.mask)}; it must be a list of whole numbers, as [1, 3]")
        if self.truncation not in TRUNCATIONS:
            raise unknown(f"value of truncation for {who}:", self.truncation, TRUNCATIONS)
        if self.image is not None and self.image not in IMAGES:
            raise unknown(f"value of image for {who}:", self.image, IMAGES)
        workers: Any = self.workers
        if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= MOST_WORKERS:
            raise UsageError(f"{who}: workers is {workers!r}; it must be a whole number from 0 to {MOST_WORKERS}")
        for name in ("previous_action", "previous_reward"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{who}: {name} is {getattr(self, name)!r}; it must be true or false")


def check_kinds(who: str, lists: Mapping[str, Any], env_args: Any, horizon: Any) -> None:
    """Raise a usage error for an argument of another kind than it has, in a call or on a command line.

    Args:
        who: names the environment.
        lists: what must be lists, by name.
        env_args: what must be a mapping, or None.
        horizon: what must be a number above 0, or None.
    """
    for name, value in lists.items():
        if not isinstance(value, list | tuple):
            raise UsageError(f"{who}: {name} is {value!r}; it must be a list, as [{value}]")
    if not (env_args is None or isinstance(env_args, Mapping)):
        raise UsageError(f"{who}: env_args is {env_args!r}; it must be a mapping, as {{max_steps: 40}}")
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise UsageError(f"{who}: horizon is {horizon!r}; it must be a whole number above 0")


class View:
    """Makes of the rows of environments what is shown of them.

    Args:
        who: names the environment.
        spaces: Gymnasium's module of that name.
        seen: the space of the environment's observations.
        options: of the task.
        actions: what the actions are.

    Raises:
        UsageError: the mask or the choice of how images are read does not fit the observations.

    Attributes:
        layout: the parts of what is shown, name to width.
        images: where the images are that a convolution reads.
        flattened: whether there is an image that is flattened, as ``image flatten`` asks for.
    """

    def __init__(self, who: str, spaces: Any, seen: Any, options: Options, actions: ActionSpace) -> None:
        width, mask = spaces.flatdim(seen), options.mask
        if max(width, actions.outputs) > MOST_NUMBERS:
            of = f"observations have {width:,}" if width > MOST_NUMBERS else f"actions need {actions.outputs:,}"
            raise UsageError(f"{who}: its {of} numbers, one for each value; the most is {MOST_NUMBERS:,}")
        if not all(0 <= index < width for index in mask):
            raise UsageError(f"{who}: mask {list(mask)[:10]} is outside 0 to {width - 1}")
        shown = torch.ones(width, dtype=torch.bool)
        shown[list(mask)] = False
        if not shown.any():
            raise UsageError(f"{who}: nothing is observed: {width} numbers, mask {list(mask)[:10]}")
        self._kept, self._actions, self._options = shown.nonzero().flatten(), actions, options
        self.layout = {"observation": len(self._kept)}
        self.layout |= {"previous_action": actions.width} if options.previous_action else {}
        self.layout |= {"previous_reward": 1} if options.previous_reward else {}
        found = list(images_in(spaces, seen))
        chosen = chosen_images(who, found, options.image, mask)
        starts = [one.image.start - sum(index < one.image.start for index in mask) for one in chosen]
        pairs = list(zip(chosen, starts, strict=True))
        self.images = tuple(Image(start, one.image.shape, one.image.channels_last) for one, start in pairs)
        self._bytes = [slice(start, start + one.image.size) for one, start in pairs if one.bytes]
        self.flattened = not chosen and any(one.shorter >= SMALLEST for one in found)

    def numbers(self, rows: list[Row]) -> Tensor:
        """Return the observations of the environments themselves, ``[B, D]`` float32."""
        found = torch.from_numpy(np.stack(rows)).float().index_select(1, self._kept)
        for part in self._bytes:
            found[:, part] /= BYTE
        return found

    def complete(
        self, rows: Tensor, actions: list[Any] | None, rewards: list[float], is_first: Tensor | None = None
    ) -> Tensor:
        """Append the actions and rewards of the last step to observations, as far as the options ask for them.

        Args:
            rows: the observations, ``[B, D]``.
            actions: the actions that led to them; None if there were none.
            rewards: the rewards of these actions.
            is_first: bool ``[B]``, where zeros are shown instead; None for nowhere.
        """
        parts = []
        if self._options.previous_action:
            dtype = self._actions.dtype
            zeros = torch.zeros(len(rows), self._actions.width)
            parts.append(zeros if actions is None else self._actions.as_observation(torch.tensor(actions, dtype=dtype)))
        if self._options.previous_reward:
            parts.append(torch.tensor(rewards).unsqueeze(1))
        if is_first is not None:
            parts = [part.masked_fill(is_first.unsqueeze(1), 0) for part in parts]
        return torch.cat([rows, *parts], dim=1) if parts else rows
