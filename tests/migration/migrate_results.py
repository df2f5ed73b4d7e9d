"""Converts published results of the first schema to JSON Lines of the second, with every default filled in.

``python tests/migration/migrate_results.py OLD.json NEW.jsonl``, in a checkout with its history: the defaults come from
the commit that each run names. Files of the first schema are in the history too (``git show``).
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from memsuite.runs.collection import write_collection
from memsuite.runs.recipes import GYM, completed_config
from memsuite.runs.result import SCHEMA, RunResult
from memsuite.tasks import make_task

ROOT = Path(__file__).parents[2]
# Code that a commit runs to print its defaults: of its controllers, of its task presets, and of PPO.
ASK = """
import importlib, inspect, json, sys
from dataclasses import MISSING, fields
from memsuite.controllers import CONTROLLERS
from memsuite.rl import PPOConfig
from memsuite.tasks.registry import PRESETS, TASKS

def controller(name):
    module, _, cls = name.rpartition(".")
    return getattr(importlib.import_module(module), cls) if module else CONTROLLERS[name]

def defaults(cls):
    given = inspect.signature(cls).parameters.items()
    return {key: one.default for key, one in given if one.default is not inspect.Parameter.empty}

presets = {f"{task} {tier}": {"args": {**defaults(TASKS[task]), **one.args}, "discount": one.discount,
           "gae_lambda": one.gae_lambda} for (task, tier), one in PRESETS.items()}
ppo = {one.name: one.default for one in fields(PPOConfig) if one.default is not MISSING}
controllers = {name: defaults(controller(name)) for name in sys.argv[1:]}
print(json.dumps({"controllers": controllers, "presets": presets, "ppo": ppo}))
"""
# PPO's behaviour before it had the setting, where this differs from the first recipe, which fills in the rest.
BEFORE_IT_WAS_A_SETTING = {"entropy_weighting": "uniform"}


def migrate(content: Any) -> list[dict[str, Any]]:
    """Return the runs of a file of the first schema as records of the second.

    Args:
        content: a list of runs, a mapping with the list under ``runs``, or one with lists by the name of a group, which
            becomes the field ``group`` of their runs.
    """
    if isinstance(content, list) or "runs" in content:
        groups = {None: content if isinstance(content, list) else content["runs"]}
    else:
        groups = content
    runs = [run if name is None else {**run, "group": name} for name, own in groups.items() for run in own]
    asked: dict[str, set[str]] = {}
    for run in runs:
        asked.setdefault(run["commit"], set()).add(run["controller"])
    return [migrated(run, defaults_at(run["commit"], tuple(sorted(asked[run["commit"]])))) for run in runs]


def migrated(run: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a record of the second schema, resolved by the defaults of the run's commit."""
    gym = run["task"].startswith(GYM)
    about = {} if gym else anchors_of(run)
    about["steps_to_remember"] = run["horizon"] if gym else about["steps_to_remember"]
    record = {**run, **about, "schema": SCHEMA, "config": resolved(run, about["steps_to_remember"], defaults)}
    whole = RunResult.read(record, run["command"]).as_dict()
    return whole | {name: value for name, value in record.items() if name not in whole}


def anchors_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return the anchors that the first schema did not record, from the task as it is: it has not changed."""
    task = make_task(run["task"], run["difficulty"], horizon=run["horizon"], **(run["config"]["task_args"] or {}))
    anchors = task.anchors()
    assert anchors.memoryless == run["chance"], run["command"]
    names = ("random", "oracle", "unbound")
    return {name: getattr(anchors, name) for name in names} | {"steps_to_remember": task.steps_to_remember()}


def resolved(run: dict[str, Any], steps_to_remember: int, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with the defaults of its commit, and of the first recipe where it had no such setting."""
    given = run["config"]
    assert set(defaults["ppo"]) <= set(given["ppo"]), "a setting of PPO was not recorded"
    found = completed_config(given, {**run, "steps_to_remember": steps_to_remember})
    changed = {name: value for name, value in BEFORE_IT_WAS_A_SETTING.items() if name not in defaults["ppo"]}
    own, used = defaults["controllers"][run["controller"]], found["controller_args"]
    assert found["horizon"] == run["horizon"], "the horizon of the preset has changed"
    horizon = {"memory_horizon": used["memory_horizon"]} if "memory_horizon" in own else {}
    used = {**without(used, "memory_horizon"), **own, **horizon, **(given["controller_args"] or {})}
    preset = defaults["presets"].get(f"{run['task']} {run['difficulty']}", {"args": {}})
    args = without({**preset["args"], **(given["task_args"] or {})}, "horizon")
    settings = {**found, "objective": "ppo", "init_from": None, "task_args": args, "controller_args": used}
    settings["horizon"] = given["horizon"] if run["task"].startswith(GYM) else found["horizon"]
    for name in ("discount", "gae_lambda"):
        assert given["ppo"][name] is not None or found["ppo"][name] == preset[name]
    return settings | {"ppo": {**found["ppo"], **changed}}


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping without one of its keys."""
    return {key: value for key, value in mapping.items() if key != name}


@functools.cache
def defaults_at(commit: str, controllers: tuple[str, ...]) -> dict[str, Any]:
    """Run the code of a commit to get its defaults."""
    packed = subprocess.run(["git", "archive", commit, "memsuite"], cwd=ROOT, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        environment = {**os.environ, "PYTHONPATH": folder, "MEMSUITE_KERNELS": "off"}
        line = [sys.executable, "-c", ASK, *controllers]
        out = subprocess.run(line, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


if __name__ == "__main__":
    write_collection(sys.argv[2], migrate(json.loads(Path(sys.argv[1]).read_text())))
