"""The settings of a run, each declared once: the command line, the module, suites, results and resume read this."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast, get_args

from memsuite.errors import UsageError, unknown
from memsuite.reading import positive
from memsuite.runs.hints import settle
from memsuite.runs.ppo import PPOConfig

Objective = Literal["ppo", "supervised"]
DIFFICULTIES = ("easy", "medium", "hard", "extreme")
MOST_SEED = 2**32 - 1  # what NumPy's generator takes


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes.

    Attributes:
        task: name of the task (memsuite tasks lists them), or the path of your class.
        difficulty: easy, medium, hard or extreme.
        horizon: episode length in steps; the difficulty's if not given.
        task_args: other arguments of the task, as --task_args.num_cues 4; the difficulty's where not given.
        controller: name of the sequence model (memsuite controllers lists them), or the path of your class.
        controller_args: its arguments, as --controller_args.hidden_dim 64. memory_horizon (the steps that its
            initialisation should hold something for) is the task's unless given; null asks for the model's default.
        num_envs: environments that run side by side, in all processes together; each has an equal share. 2048 if not
            given where environments share scripts (ppo.draws), 64 elsewhere.
        steps: environment steps to train for at most; the difficulty's budget if not given.
        seed: decides the weights, the episodes and the actions.
        evaluation_episodes: episodes of the final evaluation; the evaluations during training use a quarter of them.
            1024 if not given; fewer for a Gymnasium environment where evaluation would otherwise take more than a
            fifth of the steps of training.
        objective: ppo, or supervised: the cross-entropy of the right actions at scored steps, from the same episodes
            with the same optimiser. What it reaches is the ceiling of the model under this training.
        init_from: a run folder or a checkpoint whose weights the run begins with.
        ppo: the settings of the optimiser.
    """

    task: str = "delayed_cue"
    difficulty: str = "medium"
    horizon: positive | None = None
    task_args: dict[str, Any] | None = None
    controller: str = "gru"
    controller_args: dict[str, Any] | None = None
    num_envs: positive | None = None
    steps: positive | None = None
    seed: int = 0
    evaluation_episodes: positive | None = None
    objective: Objective = "ppo"
    init_from: str | None = None
    ppo: PPOConfig = field(default_factory=PPOConfig)

    def __post_init__(self) -> None:
        settle(self, but=("ppo",))
        if not isinstance(self.ppo, PPOConfig):
            raise UsageError(f"ppo is a {type(self.ppo).__name__}; it must be a PPOConfig, as PPOConfig(epochs=2)")
        for name in ("num_envs", "evaluation_episodes"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise UsageError(f"{name} is {number}; the least is 1")
        check_seed(self.seed)
        if self.objective not in get_args(Objective):
            raise unknown("objective", self.objective, get_args(Objective))

    def __getitem__(self, name: str) -> Any:
        """Return a setting by its name, as the mapping in a file or a checkpoint gives it."""
        if name not in self.__dict__:
            raise KeyError(name)
        return getattr(self, name)

    def plain(self) -> dict[str, Any]:
        """Return the settings as numbers, texts, lists and mappings only.

        Raises:
            UsageError: a setting is something else, which no file can hold without pickling code.
        """
        try:
            return cast(dict[str, Any], json.loads(json.dumps(asdict(self))))
        except TypeError as error:
            raise UsageError(f"a setting is not a plain value: {error}") from error

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> RunConfig:
        """Build the settings from what :meth:`plain` returned.

        Raises:
            UsageError: a name that is no setting, or a value that a setting does not take.
        """
        names, ppo = [one.name for one in fields(cls)], content.get("ppo") or {}
        for name in content:
            if name not in names:
                raise unknown("setting", name, names)
        for name in ppo:
            if name not in PPO_NAMES:
                raise unknown("setting", f"ppo.{name}", [f"ppo.{known}" for known in PPO_NAMES])
        try:
            return cls(**{**content, "ppo": PPOConfig(**ppo)})
        except TypeError as error:
            raise UsageError(f"a setting is of the wrong kind: {error}") from error


PPO_NAMES = [one.name for one in fields(PPOConfig)]
# The settings that stand at the top of a configuration file; those of PPO stand under model.ppo.
NAMES = [one.name for one in fields(RunConfig) if one.name != "ppo"]
# What tells a run from others in the name of its folder, with the defaults.
IDENTITY = {name: getattr(RunConfig, name) for name in ("task", "difficulty", "horizon", "controller", "seed")}
# What a run may change on its way: how long it goes on, and what changes its numbers by rounding alone. With anything
# else its result would claim for the whole run what was true of its last part.
FREE, FREE_PPO = ("steps",), ("recompute", "max_skipped_updates")
GROUPS = ("model", "model.ppo", "trainer", "task_args", "controller_args")  # keys that hold other settings


def nested(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of which a name with a dot is one within a mapping: ``env_args.max_steps``, as it is typed.

    Raises:
        UsageError: the name before the dot has a value that is no mapping.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        above, dot, below = name.partition(".")
        if not dot:
            found[name] = {**value, **found.get(name, {})} if isinstance(value, Mapping) else value
        else:
            found[above] = placed(found.get(above), above, below.split("."), value)
    return found


def placed(mapping: Any, name: str, path: list[str], value: Any) -> dict[str, Any]:
    """Return a mapping, or an empty one in place of None, with a value at a path of keys.

    Raises:
        UsageError: ``name`` is no mapping, or what is on the path is none.
    """
    if not isinstance(mapping, Mapping | None):
        raise UsageError(f"{name} is {mapping!r}, so it has no {path[0]!r}; give one of the two")
    held = dict(mapping or {})
    return {**held, path[0]: value if len(path) == 1 else placed(held.get(path[0]), path[0], path[1:], value)}


def is_plain(value: Any) -> bool:
    """Tell whether a file can hold a default: a number, a text, a list or a mapping, and not "there is none"."""
    if value is inspect.Parameter.empty:
        return False
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def check_seed(seed: int) -> None:
    """Raise a usage error for a seed that no generator takes."""
    if not 0 <= seed <= MOST_SEED:
        raise UsageError(f"seed is {seed}; it must be between 0 and {MOST_SEED}")


def lift(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with those under ``model`` moved to the top, where they mean the same.

    ``model: {task: copy_memory}`` is how LightningCLI nests the arguments of a module.

    Raises:
        UsageError: both spellings are there and disagree.
    """
    model = content.get("model")
    if not isinstance(model, Mapping):
        return dict(content)
    top = {name: value for name, value in content.items() if name != "model"}
    for name in NAMES:
        if name in model:
            agree(name, top.get(name, model[name]), model[name])
            top[name] = model[name]
    rest = {name: value for name, value in model.items() if name not in NAMES}
    return {**top, "model": rest} if rest or not model else top


def lift_dotted(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that are spelt with dots, ``model.task`` moved to the top as by :func:`lift`."""
    top = {name: value for name, value in flat.items() if not _is_below_model(name)}
    for name, value in flat.items():
        if _is_below_model(name):
            above = name.removeprefix("model.")
            agree(above, top.get(above, value), value)
            top[above] = value
    return top


def _is_below_model(name: str) -> bool:
    return name.startswith("model.") and name.split(".")[1] in NAMES


def agree(name: str, top: Any, below: Any) -> None:
    """Raise a usage error if one setting was given twice with different values."""
    if top != below:
        raise UsageError(f"{name} is {top!r} and model.{name} is {below!r}; they mean the same setting: keep one")
