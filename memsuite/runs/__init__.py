"""What a run is: the settings it is given, and the record of what it did. Nothing here trains or draws anything."""

from memsuite.runs.config import RunConfig, lift
from memsuite.runs.ppo import PPOConfig, ResolvedPPO
from memsuite.runs.result import SCHEMA, RunResult

__all__ = ["SCHEMA", "PPOConfig", "ResolvedPPO", "RunConfig", "RunResult", "lift"]
