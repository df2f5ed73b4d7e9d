"""The first recipe's settings of PPO, for what it alone has: one draw, a critic, several passes over a rollout."""

from __future__ import annotations

from typing import Any

from memsuite.rl import PPOConfig
from memsuite.runs.recipes import LATER, recipes


def first_recipe(**changes: Any) -> PPOConfig:
    """Return them, with some changed."""
    return PPOConfig(**{**LATER, **recipes()["v1"]["ppo"], **changes})
