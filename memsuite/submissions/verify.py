"""Whether a submission is whole: nothing is missing, nothing was changed, and its numbers agree with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError
from memsuite.runs import SCHEMA, RunResult
from memsuite.runs.collection import check_values, read_json
from memsuite.runs.trust import module_in
from memsuite.submissions.content import FORMAT, digest_of

KEYS = ("format", "name", "by", "runs", "source", "digest")
# What a run must say, besides what every record must.
ASKED = (
    "episodes_evaluated",
    "env_steps",
    "parameters",
    "state_floats",
    "cpu_seconds",
    "hardware",
    "versions",
    "command",
)
NEAR = 1e-6  # how far the numbers of a run may be from what they follow from


def read_submission(path: str | Path) -> dict[str, Any]:
    """Read a submission and check it (:func:`verify`).

    Raises:
        UsageError: one line that names the file and what is wrong.
    """
    content = read_json(path)
    verify(content, str(path))
    found: dict[str, Any] = content
    return found


def verify(content: Any, where: str) -> list[RunResult]:
    """Check the content of a submission; return its runs.

    The digest tells a file that was cut or changed by accident, or by somebody in between. Whoever makes a file can
    make its digest too: what its numbers are worth is seen by running it again
    (:func:`~memsuite.submissions.rerun.rerun`).

    Args:
        content: of the file.
        where: the file, for the message.

    Raises:
        UsageError: one line that says what is wrong.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{where} is no submission of format {FORMAT}; memsuite submit RUN makes one")
    if missing := [name for name in KEYS if name not in content]:
        raise UsageError(f"{where} has no {missing[0]!r}, so it is not whole; make it again with memsuite submit RUN")
    if content["digest"] != digest_of(content):
        raise UsageError(f"{where} is not as it was made: its content has another digest; make it again")
    if not all(isinstance(content[name], str) for name in ("name", "by")):
        raise UsageError(f"{where}: name and by must be texts")
    runs, source = content["runs"], content["source"]
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise UsageError(f"{where} holds no run")
    if not isinstance(source, dict) or not all(isinstance(text, str) for text in source.values()):
        raise UsageError(f"{where}: source must be a mapping of files to their texts")
    results = [_run(run, source, f"{where}, run {number}") for number, run in enumerate(runs, start=1)]
    _check_once(results, where)
    return results


def _run(run: Mapping[str, Any], source: Mapping[str, str], where: str) -> RunResult:
    check_values(run, where)
    result = RunResult.read(run, where)
    if result.schema != SCHEMA:
        raise UsageError(f"{where} is of an earlier version of memsuite (schema {result.schema}); train it again")
    for name in ASKED:
        if getattr(result, name) is None:
            raise UsageError(f"{where} is not whole: it does not say its {name}")
    if result.success is None and result.return_mean is None:
        raise UsageError(f"{where} is not whole: it has neither a success nor a return")
    for name in (result.task, result.controller):
        module = module_in(name).replace(".", "/")
        if module and not {f"{module}.py", f"{module}/__init__.py"} & source.keys():
            raise UsageError(f"{where}: {name!r} is of your own, and its file {module}.py is not in the submission")
    _check_numbers(result, where)
    return result


def _check_numbers(result: RunResult, where: str) -> None:
    """Refuse numbers of a run that contradict each other."""
    anchors = (result.success, result.chance, result.oracle)
    if result.score is not None and not any(one is None or math.isnan(one) for one in anchors):
        success, chance, oracle = (float(one or 0.0) for one in anchors)
        if oracle > chance and abs(result.score - (success - chance) / (oracle - chance)) > NEAR:
            raise UsageError(f"{where}: score is {result.score}, which does not follow from its success, {success}")
    target, reached = result.target_success, result.reached_target
    if None not in (result.success, target, reached) and (result.success >= target) != reached:  # type: ignore[operator]
        raise UsageError(f"{where}: reached_target contradicts success {result.success}")
    steps = result.config.get("steps")
    if steps is not None and result.env_steps is not None and result.env_steps > steps:
        raise UsageError(f"{where}: {result.env_steps:,} steps were trained, and the configuration asks for {steps:,}")


def _check_once(results: list[RunResult], where: str) -> None:
    seen: dict[str, int] = {}
    for number, result in enumerate(results, start=1):
        key = repr(sorted(result.config.items(), key=lambda item: item[0])) + repr(result.curriculum)
        if key in seen:
            raise UsageError(f"{where}: runs {seen[key]} and {number} have the same settings and seed; keep one")
        seen[key] = number
