"""A run killed at any moment, even during the write of a checkpoint, resumes with the bits of an uninterrupted run."""

import csv
import random
import signal
import time

import pytest
from children import TINY, Pair, Run
from same_run import assert_same, end_state

SPEED = {"slow_iteration": 0.02, "slow_write": 0.0003}


def kill_and_go_on(folder, errors, settings, kills: int, most: int, rng, start) -> tuple[int, int]:
    """Kill the run ``times`` times at random; return how often it was killed, and how often during a write.

    The moment is a random number of iterations, at most ``most``, and a random moment within an iteration, so that a
    busy machine kills the same runs as a quiet one.
    """
    killed = inside = 0
    for i in range(kills):
        # The same command starts the run and resumes it.
        run = start(f"fit --ckpt_path last --out {folder}", *settings, errors=errors, **SPEED)
        if i % 5:
            run.wait_for_iteration(rng.randint(1, most))
            time.sleep(rng.uniform(0, 2 * SPEED["slow_iteration"]))
        else:
            time.sleep(rng.uniform(0, 0.6))
        run.kill(rng)
        status, said = run.end()
        assert status in (0, -signal.SIGKILL), said
        if status == 0:
            break
        killed += 1
        inside += bool(list(folder.rglob(".last.ckpt.*")))
    return killed, inside


def check(tmp_path, settings: list[str], kills: int, seed: int, start=Run) -> tuple[int, int]:
    errors = tmp_path / "errors"
    settings = [*TINY, "--checkpoint_every", "2", "--evaluate_every", "3", *settings]
    run = start(f"fit --out {tmp_path / 'whole'}", *settings, errors=errors, **SPEED)
    status, said = run.end()
    assert status == 0, said
    most = 3 * iterations_of(tmp_path / "whole") // (2 * kills)
    counts = kill_and_go_on(tmp_path / "cut", errors, settings, kills, most, random.Random(seed), start)
    status, said = start("fit --ckpt_path last --out", str(tmp_path / "cut"), errors=errors).end()
    assert status == 0, said
    assert_same(end_state(tmp_path / "whole"), end_state(tmp_path / "cut"))
    evaluated = [row for row in rows_of(tmp_path / "cut") if row["evaluation_success"]]
    assert len(evaluated) == iterations_of(tmp_path / "cut") // 3
    assert not list((tmp_path / "cut").rglob(".*"))
    return counts


def rows_of(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def iterations_of(folder) -> int:
    return max(int(row["iteration"]) for row in rows_of(folder))


INTERACTIVE = "--task distractor_nav --horizon 12"
MID_EPISODE = ["--model.ppo.rollout_length", "7", "--steps", str(4 * 7 * 16)]


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    killed, _ = check(tmp_path, MID_EPISODE, kills=4, seed=1)
    assert killed >= 2


SHARED = [
    "--num_envs",
    "16",
    *["--model.ppo.draws", "4", "--model.ppo.advantage", "group_mean", "--model.ppo.epochs", "1"],
]


@pytest.mark.parametrize(("task", "decay"), [("n_back", "0.3"), ("distractor_nav", "0")])
def test_a_run_of_shared_scripts_goes_on_to_the_same_bits(tmp_path, task, decay):
    length = ["--model.ppo.rollout_length", "7", "--steps", str(16 * 7 * 16)]
    length = length if task == "n_back" else ["--steps", str(16 * 12 * 16)]
    settings = [*SHARED, "--task", task, "--horizon", "12", *length, "--model.ppo.matrix_decay", decay]
    killed, _ = check(tmp_path, settings, kills=3, seed=4)
    assert killed >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rollout", ["whole", "mid-episode"])
@pytest.mark.parametrize("controller", ["gru", "mamba", "transformer"])
def test_killed_twenty_times_equals_undisturbed(tmp_path, controller, rollout):
    length = ["--steps", str(4 * 10 * 120)] if rollout == "whole" else [*MID_EPISODE[:2], "--steps", str(4 * 7 * 120)]
    killed, inside = check(tmp_path, ["--controller", controller, *length], kills=20, seed=2)
    print(f"{controller}, {rollout}: killed {killed} times, {inside} of them inside a write")
    assert killed >= 15
    assert inside >= 1


def test_an_interactive_task_too(tmp_path):
    killed, _ = check(tmp_path, [*INTERACTIVE.split(), "--model.ppo.draws", "1", *MID_EPISODE], kills=3, seed=3)
    assert killed >= 1


@pytest.mark.ddp
def test_two_processes_killed_and_resumed_equal_undisturbed_ones(tmp_path):
    killed, _ = check(tmp_path, MID_EPISODE, kills=4, seed=4, start=Pair)
    assert killed >= 2


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("line", ["--controller gru", "--controller mamba", "--controller transformer", INTERACTIVE])
def test_two_processes_killed_twenty_times_equal_undisturbed_ones(tmp_path, line):
    length = [*MID_EPISODE[:2], "--steps", str(4 * 7 * 120)]
    unshared = ["--model.ppo.draws", "1"] if line == INTERACTIVE else []  # draws of it need whole episodes
    killed, inside = check(tmp_path, [*line.split(), *unshared, *length], kills=20, seed=5, start=Pair)
    print(f"{line}, two processes: killed {killed} times, {inside} of them inside a write")
    assert killed >= 15
    assert inside >= 1
