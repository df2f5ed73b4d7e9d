"""The training results that are reported, on the reported seeds: the golden run, and Gymnasium environments.

``make learn`` runs this file: it prints a summary and writes the runs of all seeds into files of ``results/``.
``make docs`` then writes the table in README.md.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memsuite.runs.collection import write_collection

ROOT = Path(__file__).parents[1]
SEEDS = range(5)
FIRST = ["--config", "configs/recipes/v1.yaml", "--num_envs", "32", "--steps", "200000"]
VARIANTS = {
    "second": [],  # the default recipe; the others use the first recipe
    "published": FIRST,
    "generic": [*FIRST, "--model.ppo.discount", "0.99", "--model.ppo.gae_lambda", "0.95"],
}
VARIANTS["tested"] = [*VARIANTS["generic"], "--model.ppo.consequences", "tested", "--model.ppo.critic", "observation"]


def train(config: str, folder: Path, seed: int, *options: str) -> dict:
    """Run one seed as a user would, in a separate process with one thread."""
    command = [sys.executable, "-m", "memsuite", "fit", "--config", config, "--seed", str(seed), "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *options], cwd=ROOT, env=environment, check=True, capture_output=True)
    result = json.loads((folder / "result.json").read_text())
    return {**result, "command": result["command"].replace(str(folder), f"runs/{folder.name}")}


def summary(results: dict[str, list[dict]]) -> str:
    """Return one line per variant: every seed's success, and its steps to the target."""
    lines = []
    for variant, runs in results.items():
        steps = ["-" if run["steps_to_target"] is None else f"{run['steps_to_target']:,}" for run in runs]
        success = [f"{run['success']:.3f}" for run in runs]
        lines.append(f"{variant}: {' '.join(success)}; steps to the target {' '.join(steps)}")
    return "\n".join(lines)


@pytest.mark.learns
def test_the_golden_run_learns_on_the_reported_seeds(tmp_path, capsys):
    def run(variant: str, seed: int) -> dict:
        return train("configs/golden.yaml", tmp_path / f"{variant}{seed}", seed, *VARIANTS[variant])

    with ThreadPoolExecutor(max_workers=2) as pool:
        results = {variant: list(pool.map(run, [variant] * len(SEEDS), SEEDS)) for variant in VARIANTS}
    write_collection(ROOT / "results" / "golden_v2.jsonl", results["second"])
    first = [{**run, "group": name} for name, runs in results.items() for run in runs if name != "second"]
    write_collection(ROOT / "results" / "golden.jsonl", first)
    with capsys.disabled():
        print(f"\ngreedy success\n{summary(results)}")
    assert min(run["success"] for run in results["second"]) >= 0.99
    assert max(run["scripts"] for run in results["second"]) <= 3125
    successes = [run["success"] for run in results["published"]]
    assert all(run["env_steps"] <= 200_000 for name, runs in results.items() if name != "second" for run in runs)
    assert sum(success >= 0.95 for success in successes) >= 4
    assert min(successes) >= 0.85
    assert min(run["success"] for run in results["tested"]) >= 0.90


# Environment, the greedy return to exceed, and the reference value.
GYMNASIUM = {
    "cartpole_without_velocities": 400.0,
    "popgym_repeat_previous": -0.5,  # the return of a random policy; 1 is the best there is
    "pendulum_without_velocities": -260.0,  # about -1,200 at random
}


@pytest.mark.learns
@pytest.mark.parametrize("name", GYMNASIUM)
def test_gymnasium_environments_are_learnt(tmp_path, capsys, name):
    if name.startswith("popgym"):
        pytest.importorskip("popgym", reason="pip install 'memsuite-rl[peers]'")
    with ThreadPoolExecutor(max_workers=2) as pool:
        runs = list(pool.map(lambda seed: train(f"configs/tasks/{name}.yaml", tmp_path / str(seed), seed), SEEDS))
    write_collection(ROOT / "results" / f"{name}.jsonl", runs)
    returns = [run["return_mean"] for run in runs]
    with capsys.disabled():
        print(f"\n{name}: greedy return on seeds 0 to 4: {', '.join(f'{value:.2f}' for value in returns)}")
    assert min(returns) > GYMNASIUM[name]


@pytest.mark.learns
def test_a_gru_learns_the_easy_t_maze(tmp_path):
    """By the defaults, on a seed that no result is reported of."""
    folder = tmp_path / "maze"
    command = ["fit", "--task", "t_maze", "--difficulty", "easy", "--controller", "gru", "--seed", "1000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "memsuite", *command, "--out", str(folder)]
    subprocess.run(line, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert json.loads((folder / "result.json").read_text())["success"] >= 0.95


# A small environment of tests/tasks/worlds.py, its settings, and the return to exceed; no result reports the seed.
WORLDS = {
    # A number is shown at the first step and acted at the last; the best policy without memory loses 0.5.
    "Recall-v0": ("--num_envs 128 --steps 200000 --model.ppo.discount 0.99 --model.ppo.rollout_length 7", -0.1),
    # A square is in one of four quarters of a picture of noise; the best policy without memory is right in 0.25.
    "Glimpse-v0": ("--num_envs 64 --steps 64000 --model.ppo.discount 0.99 --model.ppo.rollout_length 5", 0.9),
}


@pytest.mark.learns
@pytest.mark.parametrize("name", WORLDS)
def test_a_number_and_a_picture_are_remembered(tmp_path, name):
    config, folder = ROOT / "configs" / "tasks" / "pendulum_without_velocities.yaml", tmp_path / "run"
    settings, least = WORLDS[name]
    command = f"fit --config {config} --task gym:worlds:{name} --seed 1000 --device cpu --out {folder} {settings}"
    more = "--task_args.mask [] --model.ppo.reward_scale 1.0"
    line = [sys.executable, "-m", "memsuite", *command.split(), *more.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(line, cwd=ROOT / "tests" / "tasks", env=environment, check=True, capture_output=True)
    assert json.loads((folder / "result.json").read_text())["return_mean"] > least
