"""PPO settings of the first recipe, for the features that only it has: one draw, a critic, several passes."""

from __future__ import annotations

from typing import Any

from memsuite.rl import PPOConfig
from memsuite.runs.recipes import LATER, recipes


def first_recipe(**changes: Any) -> PPOConfig:
    """Return the settings, with some changed."""
    return PPOConfig(**{**LATER, **recipes()["v1"]["ppo"], **changes})
