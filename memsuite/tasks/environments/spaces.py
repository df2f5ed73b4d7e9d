"""Gymnasium's spaces in memsuite: which actions a policy may take, and which parts of an observation are images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from memsuite.errors import UsageError, unknown
from memsuite.tasks.actions import ActionSpace, Continuous, Discrete, MultiDiscrete
from memsuite.types import Image

LONGEST = 120  # letters of a space in a message
SMALLEST = 16  # pixels of the shorter side from which on an image is read by a convolution if nothing else is asked for
BYTE = 255.0  # the largest value of an image of bytes


def shown(space: Any) -> str:
    """Return a space as text of one line that is not too long."""
    text = " ".join(str(space).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def action_space_of(who: str, spaces: Any, actions: Any) -> ActionSpace:
    """Return what the actions of an environment are.

    Args:
        who: names the environment.
        spaces: Gymnasium's module of that name.
        actions: the space of its actions.

    Raises:
        UsageError: a space that no policy here serves, with what to do about it.
    """
    if isinstance(actions, spaces.Discrete):
        return Discrete(int(actions.n))
    if isinstance(actions, spaces.MultiDiscrete) and actions.nvec.size:
        return MultiDiscrete(tuple(actions.nvec.flatten().tolist()))
    if isinstance(actions, spaces.MultiBinary) and np.prod(actions.shape):
        return MultiDiscrete((2,) * int(np.prod(actions.shape)))
    if isinstance(actions, spaces.Box) and actions.dtype.kind == "f" and np.prod(actions.shape):
        return Continuous(
            *(tuple(bound.flatten().astype(np.float64).tolist()) for bound in (actions.low, actions.high))
        )
    raise UsageError(
        f"{who}: its actions are {shown(actions)}; supported are Discrete, MultiDiscrete, MultiBinary and Box of real "
        "numbers: turn them into one of these in a wrapper, gymnasium.wrappers.TransformAction(env, function, space)"
    )


def chosen_parts(who: str, spaces: Any, seen: Any, keys: tuple[str, ...]) -> Any:
    """Return the space of the parts of a Dict of observations that are read; the space itself if ``keys`` is empty.

    Args:
        who: names the environment.
        spaces: Gymnasium's module of that name.
        seen: the space of the environment's observations.
        keys: names of the parts to read.

    Raises:
        UsageError: there is no part of such a name, or there are no parts.
    """
    if not keys:
        return seen
    if not isinstance(seen, spaces.Dict):
        raise UsageError(f"{who}: keys choose among the parts of a Dict, and its observations are {shown(seen)}")
    for key in keys:
        if key not in seen.spaces:
            raise unknown(f"part of {who}'s observations:", key, seen.spaces)
    return spaces.Dict({key: part for key, part in seen.spaces.items() if key in keys})


def as_given(spaces: Any, space: Any, action: Any) -> Any:
    """Return an action in the form that its environment takes; real numbers are clipped to their bounds.

    Args:
        spaces: Gymnasium's module of that name.
        space: the environment's action space.
        action: a whole number from 0 on, or a list of numbers.
    """
    if isinstance(space, spaces.Discrete):
        return action + int(space.start)
    if isinstance(space, spaces.Box):
        # What is not a number is a mistake of the network's, which the loss will tell; the environment is given a 0.
        number = np.nan_to_num(np.asarray(action, space.dtype).reshape(space.shape))
        return np.clip(number, space.low, space.high)
    taken = np.asarray(action, space.dtype).reshape(space.shape)
    return taken + space.start if isinstance(space, spaces.MultiDiscrete) else taken


@dataclass(frozen=True)
class Seen:
    """An image in the flattened observation of an environment.

    Attributes:
        image: where it is.
        bytes: whether its numbers are bytes, which are scaled to [0, 1].
    """

    image: Image
    bytes: bool

    @property
    def shorter(self) -> int:
        """Pixels of its shorter side."""
        return min(self.image.shape[:2] if self.image.channels_last else self.image.shape[1:])


def images_in(spaces: Any, space: Any, start: int = 0) -> Iterator[Seen]:
    """Yield the parts of an observation that may be images: arrays of three dimensions, of which one is channels.

    Args:
        spaces: Gymnasium's module of that name.
        space: the space of the observation, or of a part of it.
        start: index of its first number.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 3:
        first, _, last = space.shape
        yield Seen(Image(start, tuple(space.shape), channels_last=last <= first), space.dtype == np.uint8)
    elif isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            yield from images_in(spaces, part, start)
            start += spaces.flatdim(part)


def chosen_images(who: str, found: list[Seen], image: str | None, mask: tuple[int, ...]) -> list[Seen]:
    """Return the images that a convolution reads.

    Args:
        who: names the environment.
        found: all arrays of three dimensions in its observations.
        image: ``convolution`` for all of them, ``flatten`` for none, None for those of at least 16 x 16 pixels.
        mask: indices of the observation that are left out.

    Raises:
        UsageError: there is none, or a part of one is left out.
    """
    if image == "flatten":
        return []
    if image == "convolution" and not found:
        raise UsageError(f"{who}: image convolution needs an observation of three dimensions; leave image out")
    chosen = found if image == "convolution" else [one for one in found if one.shorter >= SMALLEST]
    for one in chosen:
        if inside := [at for at in mask if one.image.start <= at < one.image.start + one.image.size]:
            raise UsageError(f"{who}: mask {inside[:10]} lies within an image; set image flatten to leave out pixels")
    return chosen
