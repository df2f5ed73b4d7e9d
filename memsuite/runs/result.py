"""The record of a run, ``result.json``: its fields, their kinds, and how the records of earlier versions are read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from memsuite.errors import UsageError
from memsuite.files import spelt
from memsuite.runs.kinds import Wrong, check_settings
from memsuite.runs.recipes import completed

SCHEMA = 2
NEEDED = ("task", "difficulty", "horizon", "controller", "seed", "success", "success_low", "success_high")
UNKNOWN_AS_NULL = NEEDED[5:]  # where no decision is scored
FRACTIONS = (*UNKNOWN_AS_NULL, "chance", "target_success", "random", "oracle", "unbound")
KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "str": ("a text", (str,)),
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "bool": ("true or false", (bool,)),
    "dict[str, Any]": ("a mapping", (dict,)),
}
CURRICULUM: dict[str, tuple[str, tuple[type, ...]]] = {
    "argument": ("a text", (str,)),
    "start": ("a number", (int, float)),
    "factor": ("a number", (int, float)),
}
NAMED = ("task", "difficulty", "controller")
COMPLETE = (*NAMED, "num_envs", "ppo")
LONGEST = 200  # letters of a name
FARTHEST = 1000  # of a score from 0: a task is none where a thousandth of success lies between no memory and all of it
STEPS = re.compile(r"--steps[ =](\d+)")  # on the command line of a run
SETTINGS = ("ppo", "controller_args", "task_args")  # mappings within the configuration


@dataclass(frozen=True)
class RunResult:
    """What was trained, what it achieved, on what, and at what cost. None is a value that is not known.

    Attributes:
        task: name of the task.
        difficulty: its tier.
        controller: name of the sequence model.
        seed: the seed.
        horizon: steps of an episode.
        success: greedy success on fresh episodes, in [0, 1]; None where no decision is scored.
        success_low: lower end of its 95% interval.
        success_high: upper end.
        schema: version of this record.
        episodes_evaluated: episodes of the final evaluation.
        return_mean: mean return of an episode.
        return_low: lower end of its 95% interval.
        return_high: upper end.
        score: (success - memoryless) / (oracle - memoryless).
        chance: success of the best policy without memory.
        target_success: success that counts as solved.
        reached_target: whether it was reached.
        random: success of the uniformly random policy.
        oracle: success of the best policy there is.
        unbound: success of the best policy that does not know what goes with what; None where nothing is bound.
        steps_to_remember: most steps between something shown and the decision that needs it.
        objective: what was minimised: ``ppo``, or ``supervised`` for a ceiling.
        init_from: the run or checkpoint whose weights it began with.
        env_steps: environment steps trained on; environments that share a script each count.
        scripts: episodes that were drawn and read; ``env_steps / (horizon x draws)`` where all are of one length.
        iterations: iterations done.
        steps_to_target: environment steps at the first evaluation at the target.
        wall_seconds_to_target: wall time until then, evaluations included.
        cpu_seconds_to_target: CPU time of all processes until then.
        steps_to_90_sampled: environment steps when sampled actions were first right nine times in ten.
        wall_seconds: wall time of the run.
        cpu_seconds: CPU time of all its processes.
        steps_per_second: environment steps for each second of training.
        evaluation_share: wall time of evaluations, those on the way and the last, relative to that of training.
        world_size: processes that trained together.
        precision: of the training, as Lightning's trainer names it; None in older results, which had ``32-true`` unless
            their command line says otherwise.
        parameters: numbers that are learnt.
        state_floats: numbers that the memory of one episode holds.
        encoder: what makes numbers of an image before the memory reads it; None where no image is seen.
        skipped_updates: updates left out because their loss or gradient was not finite.
        memory_moved: how far the parameters of each part of the network went, relative to their size at the start.
        curve: the evaluations on the way, as lists ``env_steps``, ``success`` and ``return``; only in files of many
            runs, as a run folder has them in ``metrics.csv``.
        curriculum: what was trained on before the full task; None if nothing was.
        kernels: whether the compiled ops ran, and for which instruction set; on a GPU, also whether its kernels did.
        hardware: what the run ran on, with its threads.
        versions: of what the numbers depend on.
        commit: of memsuite's checkout; None outside one.
        command: the command line.
        config: the settings (:class:`~memsuite.runs.RunConfig`) with every default filled in.
    """

    task: str
    difficulty: str
    controller: str
    seed: int
    horizon: int
    success: float | None
    success_low: float | None
    success_high: float | None
    schema: int = SCHEMA
    episodes_evaluated: int | None = None
    return_mean: float | None = None
    return_low: float | None = None
    return_high: float | None = None
    score: float | None = None
    chance: float | None = None
    target_success: float | None = None
    reached_target: bool | None = None
    random: float | None = None
    oracle: float | None = None
    unbound: float | None = None
    steps_to_remember: int | None = None
    objective: str = "ppo"
    init_from: str | None = None
    env_steps: int | None = None
    scripts: int | None = None
    iterations: int | None = None
    steps_to_target: int | None = None
    wall_seconds_to_target: float | None = None
    cpu_seconds_to_target: float | None = None
    steps_to_90_sampled: int | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    steps_per_second: float | None = None
    evaluation_share: float | None = None
    world_size: int | None = None
    precision: str | None = None
    parameters: int | None = None
    state_floats: int | None = None
    encoder: str | None = None
    skipped_updates: int | None = None
    memory_moved: dict[str, Any] | None = None
    curve: dict[str, Any] | None = None
    curriculum: dict[str, Any] | None = None
    kernels: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    commit: str | None = None
    command: str | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values; null where a number is not known, as JSON has no NaN."""
        values = {name: getattr(self, name) for name in KIND_OF} | {"config": spelt(self.config)}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()
        }

    @property
    def extended_after(self) -> list[str | None]:
        """The steps that were asked for each time the run had ended and went on; None where its budget was."""
        *before, _ = (self.command or "").split(" && ")
        return [found[1] if (found := STEPS.search(command)) else None for command in before]

    def besides(self) -> list[str]:
        """Return what makes a different experiment beside the settings: a curriculum, an extension, a precision.

        The rate of a run that went on after its end fell to 0 and rose again.
        """
        used, asked = self.curriculum, [steps or "its budget" for steps in self.extended_after]
        found = [f"curriculum={used['argument']} from {used['start']} x {used['factor']:g}"] if used else []
        found += [f"extended_after={' and '.join(asked)}"] if asked else []
        return found + ([] if self.precision in (None, "32-true") else [f"precision={self.precision}"])

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> RunResult:
        """Check and read a record; one of an earlier version is completed with the defaults of that version.

        Fields that this version does not know are left out.

        Args:
            content: what the file holds.
            where: the file or folder, for the message.

        Raises:
            UsageError: it is no record of a run, or a value is of the wrong kind; one line names the field.
        """
        check(content, where)
        content = completed(content) if content.get("schema") is None or not content.get("config") else content
        check_config(content["config"], where)
        return cls(**{name: content[name] for name in KIND_OF if name in content})


KIND_OF = {one.name: str(one.type).removesuffix(" | None") for one in fields(RunResult)}


def check(run: Mapping[str, Any], where: str) -> None:
    """Refuse what is no record of a run, before it is added up with others."""
    for name in NEEDED:
        value = run.get(name, "")
        if value == "" or (value is None and name not in UNKNOWN_AS_NULL):
            raise UsageError(f"{where} holds no result of memsuite's: it has no {name!r}")
    for name, kind in KIND_OF.items():
        _require(where, name, run.get(name), *KINDS[kind])
    if (run.get("schema") or SCHEMA) > SCHEMA:
        raise UsageError(
            f"{where} was written by a later version of memsuite (schema {run['schema']}); update to read it"
        )
    for name in NAMED:
        if len(run[name]) > LONGEST or not run[name].isprintable():
            raise UsageError(f"{where}: {name} is {run[name][:LONGEST]!r}; it must be a name in one line")
    check_bounds(run, where)
    config, used = run.get("config") or {}, run.get("curriculum") or {}
    for name in SETTINGS:
        _require(where, f"config.{name}", config.get(name), *KINDS["dict[str, Any]"])
    for name, (kind, types) in CURRICULUM.items() if used else ():
        if used.get(name) is None:
            raise UsageError(f"{where}: curriculum has no {name!r}")
        _require(where, f"curriculum.{name}", used[name], kind, types)


def check_bounds(run: Mapping[str, Any], where: str) -> None:
    """Refuse numbers that a run cannot have: fractions outside 0 to 1, counts below 0, contradictions."""
    for name in FRACTIONS:
        value = run.get(name)
        if value is None or (name not in UNKNOWN_AS_NULL and math.isnan(value)):
            continue
        if not 0 <= value <= 1:
            raise UsageError(f"{where}: {name} is {value}; it must be between 0 and 1")
    for name, kind in KIND_OF.items():
        least = 1 if name in ("horizon", "parameters") else 0
        if kind == "int" and run.get(name) is not None and run[name] < least:
            raise UsageError(f"{where}: {name} is {run[name]}; it must be at least {least}")
    score = run.get("score")
    if score is not None and abs(score) > FARTHEST:
        raise UsageError(f"{where}: score is {score}; 0 is the success without memory and 1 that of the oracle")
    low, success, high = (run[name] for name in ("success_low", "success", "success_high"))
    if None not in (low, success, high) and not low <= success <= high:
        raise UsageError(f"{where}: success is {success}, outside its interval, {low} to {high}")


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse a complete configuration in which a setting is missing that a cell is told by, or is of another kind."""
    for name in COMPLETE:
        if config.get(name) is None:
            raise UsageError(f"{where}: config has no {name!r}")
    if "discount" not in config["ppo"]:
        raise UsageError(f"{where}: config.ppo has no 'discount'")
    try:
        check_settings({name: _number_of(value) for name, value in config.items()})
    except Wrong as error:
        raise UsageError(f"{where}: {error}") from error


def _number_of(value: Any) -> Any:
    """Return a setting with the texts that stand for numbers that JSON lacks as those numbers."""
    if isinstance(value, dict):
        return {name: _number_of(each) for name, each in value.items()}
    return float(value.replace(".", "")) if value in (".nan", ".inf", "-.inf") else value


def _require(where: str, name: str, value: Any, kind: str, types: tuple[type, ...]) -> None:
    if value is None:
        return
    fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and math.isinf(value)):
        raise UsageError(f"{where}: {name} is {repr(value)[:LONGEST]}; it must be {kind}")
