"""Some examples of every kind on the command line: the exit status, one line on standard error, and no traceback."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import gymnasium
import test_fuzz_checkpoints as checkpoints
import test_fuzz_controllers as controllers
import test_fuzz_environments as environments
import test_fuzz_suites as suites
import test_fuzz_tasks as tasks
from examples import fuzz, told

SMALL = ["--difficulty", "easy", "--num_envs", "4", "--device", "cpu", "--evaluation_episodes", "2", "--overwrite"]
SOME = 30
NARROW = ["--controller_args.hidden_dim", "2"]


@functools.cache
def place() -> Path:
    """Make the folder of all examples."""
    return Path(tempfile.mkdtemp(prefix="fuzz"))


def fit(*words: str) -> list[str]:
    """Return the command line of a run of a few steps."""
    return ["fit", *SMALL, "--out", str(place() / "run"), *words]


@fuzz(controllers.plans(), quick=None, long=SOME)
def test_controllers(plan: controllers.Plan) -> None:
    """A run ends with a result, or in one line."""
    controllers.PLAN[0] = plan
    words = fit("--task", "delayed_cue", "--horizon", "7", "--steps", "56", "--controller", "drawn_controllers.Made")
    told("controllers", {plan.fault} - {""}, "Made", [*words, "--model.ppo.draws", str(plan.draws)])


@fuzz(tasks.plans(), quick=None, long=SOME)
def test_tasks(plan: tasks.Plan) -> None:
    """A run ends with a result, or in one line."""
    tasks.PLAN[0], tasks.Common.__init__.__defaults__ = plan, (plan.horizon,)
    words = fit("--task", f"test_fuzz_tasks.{plan.kind}", "--steps", str(8 * plan.horizon), *NARROW)
    told("tasks", {plan.fault} - {""}, plan.kind, [*words, "--model.ppo.draws", "1"])


@fuzz(environments.plans(), quick=None, long=SOME)
def test_environments(plan: environments.Plan) -> None:
    """A run ends with a result, or in one line."""
    environments.PLAN[0] = plan
    gymnasium.registry.pop("Drawn-v0", None)
    limit = "twelve" if plan.fault == "built: wordy limit" else plan.limit
    gymnasium.register("Drawn-v0", entry_point=environments.Drawn, max_episode_steps=limit)
    words = fit("--task", environments.NAME, "--steps", str(8 * plan.limit), *NARROW)
    told("environments", {plan.fault} - {""}, environments.NAME, words)


@fuzz(checkpoints.changes(), quick=None, long=SOME)
def test_checkpoints(change: checkpoints.Change) -> None:
    """A test of it ends with a result, or in one line; so does going on from it."""
    file = checkpoints.run()[0] / "changed.ckpt"
    checkpoints.written(change, file)
    faults = checkpoints.faults(change)
    told("checkpoints", faults, "changed.ckpt", ["test", "--ckpt_path", str(file), "--device", "cpu"])


@fuzz(suites.plans(), quick=None, long=SOME)
def test_suites(plan: suites.Plan) -> None:
    """A look at it ends with a table, or in one line."""
    file = place() / "changed.yaml"
    file.write_text(suites.with_fault(plan))
    told("suite files", {plan.fault} - {""}, "changed.yaml", ["suite", str(file), "--dry_run"])
