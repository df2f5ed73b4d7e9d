"""memsuite's tasks in Gymnasium: importing this module registers every task at every difficulty.

    import gymnasium, memsuite.tasks.gym

    gymnasium.make("memsuite/delayed_cue-medium-v0")
    gymnasium.make_vec("memsuite/delayed_cue-medium-v0", num_envs=64, num_cues=4)

(or ``gymnasium.make("memsuite.tasks.gym:memsuite/delayed_cue-medium-v0")`` without the import). Keyword arguments
replace those of the difficulty. The vector environment is native: all environments step at once.
"""

from __future__ import annotations

from typing import Any

from memsuite.shipped import extra

try:
    import gymnasium
except ImportError as error:  # pragma: no cover
    raise ImportError(f"Gymnasium is not installed; {extra('gym')}") from error
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from memsuite.tasks.registry import PRESETS, make_task
from memsuite.types import TimeStep

Observation = NDArray[np.float32]


def generator_from(numpy_generator: np.random.Generator) -> torch.Generator:
    """Return a PyTorch generator seeded from Gymnasium's."""
    return torch.Generator().manual_seed(int(numpy_generator.integers(2**63 - 1)))


class MemsuiteEnv(gymnasium.Env[Observation, np.int64]):
    """One environment of a task.

    ``info`` has ``scored`` (the action just taken was a scored decision) and ``correct`` (it was scored and right). The
    observation after the last step is all zeros, because no decision follows it.

    Args:
        task: name of the task.
        difficulty: easy, medium, hard or extreme.
        render_mode: None; there is nothing to render.
        **overrides: arguments that replace those of the difficulty.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's convention)

    def __init__(self, task: str, difficulty: str, render_mode: None = None, **overrides: Any) -> None:
        self.task, self.render_mode = make_task(task, difficulty, **overrides), render_mode
        self.observation_space = Box(-1.0, 1.0, (self.task.observation_dim,), np.float32)
        self.action_space = Discrete(self.task.num_actions)
        self._generator: torch.Generator | None = None
        self._following: TimeStep | None = None  # first step of the next episode, which the task has already begun

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; a seed determines this episode and all later ones."""
        super().reset(seed=seed)
        now = self._following
        if seed is not None or self._generator is None:
            self._generator, now = generator_from(self.np_random), None
        now = now or self.task.reset(1, self._generator)
        self._following = None
        return _array(now.observation)[0], {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step; after the last step, only :meth:`reset` shows the next episode."""
        if self._generator is None or self._following is not None:
            why = "no episode has begun" if self._generator is None else "the episode has ended"
            raise gymnasium.error.ResetNeeded(f"{why}: reset the environment")
        now = self.task.step(_valid([int(action)], self.task.num_actions))
        info = {"scored": bool(now.scored), "correct": bool(now.correct)}
        ended = bool(now.terminated | now.truncated)
        self._following = now if ended else None
        observation = _final_observation(now) if ended else _array(now.observation)
        return observation[0], float(now.reward), bool(now.terminated), bool(now.truncated), info


class MemsuiteVectorEnv(gymnasium.vector.VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """A batch of environments of a task, stepped at once.

    Autoreset happens in the same step. Where an episode ends, the returned observation belongs to the next episode;
    ``infos["final_obs"]`` has the last observation and ``infos["final_info"]`` the last step's ``scored`` and
    ``correct``, in the layout of Gymnasium's own ``SyncVectorEnv``.

    Args:
        num_envs: number of environments.
        task: name of the task.
        difficulty: easy, medium, hard or extreme.
        render_mode: None; there is nothing to render.
        **overrides: arguments that replace those of the difficulty.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, num_envs: int, task: str, difficulty: str, render_mode: None = None, **overrides: Any) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self.task = make_task(task, difficulty, **overrides)
        self.single_observation_space = Box(-1.0, 1.0, (self.task.observation_dim,), np.float32)
        self.single_action_space = Discrete(self.task.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generator: torch.Generator | None = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin all episodes again. One seed determines them all; a list of seeds is combined into one seed."""
        if options and "reset_mask" in options:
            raise ValueError("reset_mask: each environment is reset in the step that ends its episode")
        if isinstance(seed, list):
            seed = int(np.random.SeedSequence([0 if one is None else one for one in seed]).generate_state(1)[0])
        super().reset(seed=seed)
        if seed is not None or self._generator is None:
            self._generator = generator_from(self.np_random)
        return _array(self.task.reset(self.num_envs, self._generator).observation), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one step in every environment."""
        if self._generator is None:
            raise gymnasium.error.ResetNeeded("no episode has begun: reset the environments")
        now = self.task.step(_valid(actions, self.task.num_actions))
        terminated, truncated = now.terminated.numpy(), now.truncated.numpy()
        ended = terminated | truncated
        infos = _infos(now, ~ended) if not ended.all() else {}
        if ended.any():
            final = np.full(self.num_envs, None, dtype=object)
            rows = _final_observation(now)
            for index in ended.nonzero()[0]:
                final[index] = rows[index]
            infos |= {"final_obs": final, "_final_obs": ended}
            infos |= {"final_info": _infos(now, ended), "_final_info": ended.copy()}
        return _array(now.observation), now.reward.numpy().astype(np.float64), terminated, truncated, infos


def _valid(actions: Any, number: int) -> torch.Tensor:
    """Return actions as a tensor; raise Gymnasium's error for one that there is not, which would count as wrong."""
    taken = np.asarray(actions, dtype=np.int64)
    if not ((taken >= 0) & (taken < number)).all():
        raise gymnasium.error.InvalidAction(f"actions are {taken.tolist()}; they are from 0 to {number - 1}")
    return torch.as_tensor(taken)


def _array(observation: torch.Tensor) -> Observation:
    return np.array(observation.numpy())  # a copy, so that the caller cannot change the task's own data


def _final_observation(now: TimeStep) -> Observation:
    return np.zeros_like(now.observation.numpy()) if now.final_observation is None else _array(now.final_observation)


def _infos(now: TimeStep, rows: NDArray[np.bool_]) -> dict[str, Any]:
    scored, correct = now.scored.numpy() & rows, now.correct.numpy() & rows
    return {"scored": scored, "_scored": rows.copy(), "correct": correct, "_correct": rows.copy()}


def register() -> None:
    """Register ``memsuite/<task>-<difficulty>-v0`` for every preset; done once when this module is imported."""
    for task, difficulty in PRESETS:
        name = f"memsuite/{task}-{difficulty}-v0"
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="memsuite.tasks.gym:MemsuiteEnv",
                vector_entry_point="memsuite.tasks.gym:MemsuiteVectorEnv",
                kwargs={"task": task, "difficulty": difficulty},
            )


register()
