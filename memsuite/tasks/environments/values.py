"""What a Gymnasium environment returns, held to what it must be: numbers, ends, and observations of its space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from memsuite.errors import UsageError
from memsuite.tasks.environments.spaces import shown

NUMBER = (int, float)  # includes bool, a subclass of int
ENDS = (False, True)


def check_numbers(**values: Any) -> None:
    """Raise a TypeError for a value that is not a single real number, such as an array."""
    for name, value in values.items():
        plain = value.item() if getattr(value, "shape", None) == () else value
        if not isinstance(plain, NUMBER):
            raise TypeError(f"its {name} is {value!r}; it must be one number")


def check_ends(**values: Any) -> None:
    """Raise a ValueError for what is neither true nor false."""
    for name, value in values.items():
        if value not in ENDS:
            raise ValueError(f"its {name} is {value!r}; it must be true or false")


def check_observations(who: str, spaces: Any, seen: Any) -> None:
    """Raise a usage error for a space of observations that has no fixed size in numbers, with what to do about it.

    Args:
        who: names the environment.
        spaces: Gymnasium's module of that name.
        seen: the space of the observations.
    """
    if _has_empty_part(spaces, seen):
        raise UsageError(
            f"{who}: its observations, {shown(seen)}, have a part without numbers; name the others with keys"
        )
    try:
        fits = isinstance(seen, spaces.Space) and seen.is_np_flattenable
    except NotImplementedError:  # a space of somebody's own
        fits = False
    if not fits:
        raise UsageError(
            f"{who}: its observations, {shown(seen)}, have no fixed size in numbers: name the parts of a Dict to read, "
            "without texts and the like, as --task_args.keys '[image]', or turn them into numbers in a wrapper"
        )


def _has_empty_part(spaces: Any, seen: Any) -> bool:
    if not isinstance(seen, spaces.Dict | spaces.Tuple):
        return False
    parts = list(seen.spaces.values() if isinstance(seen, spaces.Dict) else seen.spaces)
    return not parts or any(_has_empty_part(spaces, part) for part in parts)


def check_observation(spaces: Any, space: Any, seen: Any) -> None:
    """Raise a ValueError for an observation that flattening would change: cut, wrap around, or show as another one.

    The bounds of real numbers are not held: what lies beyond them is passed on as it is.

    Args:
        spaces: Gymnasium's module of that name.
        space: the space that the environment declares, or a part of it.
        seen: the observation, or that part of it.
    """
    if isinstance(space, spaces.Box):
        if getattr(seen, "shape", None) != space.shape:
            _check_shape(space, np.shape(seen))
        if getattr(seen, "dtype", None) != space.dtype:
            _check_box(space, np.asarray(seen))
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        _check_whole(space, np.asarray(seen), space.n if isinstance(space, spaces.Discrete) else space.nvec)
    elif isinstance(space, spaces.MultiBinary):
        bits = np.asarray(seen)
        _check_shape(space, bits.shape)
        if not ((bits == 0) | (bits == 1)).all():
            raise ValueError(f"an observation is {_shown(bits)}, which is not in its space, {space}")
    elif isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            check_observation(spaces, part, seen[name])
    elif isinstance(space, spaces.Tuple):
        for part, its in zip(space.spaces, seen, strict=True):
            check_observation(spaces, part, its)


def _check_shape(space: Any, shape: tuple[int, ...]) -> None:
    """Refuse as many numbers in another order of dimensions; dimensions of size 1 change no order."""
    if math.prod(shape) == math.prod(space.shape) and _long(shape) != _long(space.shape):
        raise ValueError(f"an observation has the shape {list(shape)}; its space has {list(space.shape)}")


def _long(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _check_box(space: Any, seen: Any) -> None:
    real = space.dtype.kind == "f" and seen.dtype.kind in "biuf"
    if seen.dtype.kind not in "biuf" or not (real or np.array_equal(seen.astype(space.dtype), seen)):
        raise ValueError(f"an observation is {_shown(seen)}, which its space, of {space.dtype}, cannot hold")


def _check_whole(space: Any, seen: Any, most: Any) -> None:
    number = seen - space.start if seen.dtype.kind in "iub" else np.asarray(-1)
    if not (np.all(number >= 0) and np.all(number < most)):
        raise ValueError(f"an observation is {_shown(seen)}, which is not in its space, {space}")


def _shown(seen: Any) -> str:
    return " ".join(str(seen.tolist()).split())[:100]
