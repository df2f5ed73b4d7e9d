"""MiniGrid's MemoryS7 with every cell of the view as one-hots, as ``gym:minigrid_one_hot:MiniGrid-MemoryS7-OneHot-v0``.

MiniGrid shows a cell as three small numbers that are names: 5 is a key, 6 a ball. A network learns to tell them apart
sooner when they are not on one scale. This file is also an example of a wrapper of your own.
"""

import gymnasium
from minigrid.wrappers import OneHotPartialObsWrapper  # importing MiniGrid registers its environments


def make(**arguments: object) -> gymnasium.Env:
    """Make the environment, and put the wrapper around it."""
    return OneHotPartialObsWrapper(gymnasium.make("MiniGrid-MemoryS7-v0", **arguments))


gymnasium.register("MiniGrid-MemoryS7-OneHot-v0", entry_point=make)
