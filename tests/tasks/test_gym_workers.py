"""Environments in worker processes: the same bits as in one process, and one line for whatever goes wrong."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

import worlds  # noqa: E402
from test_gym_actions import SPACES, fitted, world  # noqa: E402

from memsuite.__main__ import main  # noqa: E402
from memsuite.errors import Stopped, UsageError  # noqa: E402
from memsuite.module import MemoryPPO  # noqa: E402
from memsuite.rl import evaluate, make_actor_critic, stream  # noqa: E402
from memsuite.runs.recipes import nearest_recipe  # noqa: E402
from memsuite.system import cpu_seconds  # noqa: E402
from memsuite.tasks.actions import Discrete  # noqa: E402
from memsuite.tasks.gym_task import GymTask  # noqa: E402


def same(one, other):
    for name, value in vars(one).items():
        assert (value is None) == (getattr(other, name) is None), name
        assert value is None or torch.equal(value, getattr(other, name)), name


@pytest.mark.parametrize(
    ("actions", "seen", "workers"), [("discrete", "dict", 2), ("box", "box", 3), ("several", "tuple", 9)]
)
def test_workers_change_no_bit(actions, seen, workers):
    options = {"previous_action": True, "previous_reward": True}
    alone, shared = world(actions, seen, **options), world(actions, seen, **options, workers=workers)
    space = {"discrete": Discrete(3), **SPACES}[actions]
    same(alone.reset(5, torch.Generator().manual_seed(0)), shared.reset(5, torch.Generator().manual_seed(0)))
    try:
        for _ in range(20):
            drawn = space.random(5)
            same(alone.step(drawn), shared.step(drawn))
        assert torch.equal(alone.state_dict()["seeds"], shared.state_dict()["seeds"])
        again = world(actions, seen, **options, workers=2)
        same(
            again.load_state_dict(shared.state_dict(), torch.Generator()),
            alone.load_state_dict(alone.state_dict(), torch.Generator()),
        )
        drawn = space.random(5)
        same(again.step(drawn), alone.step(drawn))
        again.close()
    finally:
        shared.close()


def children(task):
    return [process.pid for process in task._batch._processes]


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_close_ends_the_processes():
    task = world(workers=2)
    task.reset(4, torch.Generator().manual_seed(0))
    pids = children(task)
    assert len(pids) == 2
    assert all(running(pid) for pid in pids)
    task.reset(4, torch.Generator().manual_seed(1))
    assert not any(running(pid) for pid in pids)
    pids = children(task)
    task.close()
    assert not any(running(pid) for pid in pids)
    task.close()


def test_a_copy_has_processes_of_its_own():
    task = world(workers=2)
    now = task.reset(4, torch.Generator().manual_seed(0))
    for copied in (task.fresh(), copy.deepcopy(task)):
        same(copied.reset(4, torch.Generator().manual_seed(0)), now)
        assert not set(children(copied)) & set(children(task))
        copied.close()
    task.step(torch.zeros(4, dtype=torch.int64))
    task.close()


def test_the_cpu_time_of_workers_is_that_of_the_run():
    spent = []
    for workers in (0, 2):
        task = GymTask("World-v0", env_args={"fault": "busy"}, workers=workers)
        task.reset(4, torch.Generator().manual_seed(0))
        began = cpu_seconds()
        for _ in range(25):
            task.step(torch.zeros(4, dtype=torch.int64))
        spent.append(cpu_seconds() - began)
        task.close()
    assert min(spent) > 0.3  # 25 steps of 4 environments, 3 ms each
    assert spent[1] < 2 * spent[0]


@pytest.mark.parametrize("how", ["killed", "exit"])
def test_a_worker_that_dies_is_one_line(how):
    task = GymTask("World-v0", env_args={"fault": "exit" if how == "exit" else ""}, workers=2)
    task.reset(4, torch.Generator().manual_seed(0))
    actions, words = (
        torch.zeros(4, dtype=torch.int64),
        "was ended by signal 9" if how == "killed" else "ended with status 3",
    )
    for _ in range(2):
        task.step(actions)
    pids = children(task)
    if how == "killed":
        os.kill(pids[0], signal.SIGKILL)
        time.sleep(0.1)
    with pytest.raises(Stopped, match=rf"gym:World-v0: worker 0, with environments 0 to 1, {words}") as told:
        task.step(actions)
    assert "\n" not in str(told.value)
    task.close()
    assert not any(running(pid) for pid in pids)


def act(task):
    task.reset(4, torch.Generator().manual_seed(0))
    for _ in range(4):
        task.step(torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("fault", ["raise", "nan", "mask"])
def test_what_an_environment_does_wrong_is_the_same_line(fault):
    said = []
    for workers in (0, 2):
        task = GymTask(
            "World-v0", env_args={"fault": fault, "actions": "box" if fault == "mask" else "discrete"}, workers=workers
        )
        with pytest.raises(Stopped) as told:
            act(task)
        said.append(str(told.value))
        task.close()
    assert said[0] == said[1]
    if fault == "raise":
        assert "step 3 of an episode: RuntimeError: the world is flat" in said[0]
        assert "the world is flat" in str(told.value.__cause__)


def test_an_environment_that_cannot_be_made_is_one_line():
    """One is made before the processes are started, so the argument is added after that."""
    task = GymTask("World-v0", workers=1)
    task._recipe.arguments["fail"] = True
    with pytest.raises(UsageError, match=r"gym:World-v0: TypeError.*unexpected keyword argument 'fail'"):
        task.reset(1, torch.Generator().manual_seed(0))
    assert task._batch is None


def test_a_run_and_its_evaluation_have_the_same_numbers():
    found = []
    for workers in (0, 2):
        module = MemoryPPO(
            task="gym:World-v0",
            difficulty="easy",
            num_envs=4,
            steps=4 * 9 * 3,
            evaluation_episodes=5,
            task_args={"workers": workers, "env_args": {"actions": "box"}},
            controller_args={"hidden_dim": 4},
        )
        found.append((fitted(module), module.evaluate(5, "x")))
    assert found[0][1]["return_mean"] == found[1][1]["return_mean"]
    for one, other in zip(found[0][0].model.parameters(), found[1][0].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_evaluation_leaves_the_running_workers_alone():
    task = world(workers=2)
    model = make_actor_critic(task, "gru", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    task.reset(4, torch.Generator().manual_seed(0))
    before = children(task)
    evaluate(task, model, 5, stream(0, "test"))
    assert children(task) == before
    task.step(torch.zeros(4, dtype=torch.int64))
    task.close()


def test_arguments_that_no_process_can_be_given_are_one_line():
    task = GymTask("World-v0", workers=2)
    task._recipe.arguments["fault"] = threading.Lock()
    with pytest.raises(UsageError, match=r"a worker cannot be started: TypeError: cannot pickle .*; set workers 0"):
        task.reset(2, torch.Generator().manual_seed(0))


def test_the_number_of_workers_is_no_part_of_a_cell():
    arguments = [{"workers": 4, "mask": [0]}, {"mask": [0]}]
    modules = [MemoryPPO(task="gym:World-v0", difficulty="easy", steps=9 * 64, task_args=each) for each in arguments]
    found = [nearest_recipe(module.config.plain(), None) for module in modules]
    assert found[0] == found[1]
    assert found[0][1]["mask"] == [0]


MODULE = """
import gymnasium
import numpy as np
from gymnasium import spaces

print("imported")


class Mine(gymnasium.Env):
    def __init__(self, render_mode=None):
        self.action_space, self.observation_space = spaces.Discrete(2), spaces.Box(0, 9, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.random()
        return np.full(1, self.x, np.float32), {}

    def step(self, action):
        self.x += self.np_random.random()
        return np.full(1, self.x, np.float32), self.x * int(action), False, False, {}


gymnasium.register("Mine-v0", entry_point=NAME, max_episode_steps=4)
"""


@pytest.mark.parametrize("entry", ["Mine", '"own_world:Mine"'])
def test_an_environment_of_a_module_in_the_folder(tmp_path, monkeypatch, entry):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_world", raising=False)
    gymnasium.registry.pop("Mine-v0", None)
    (tmp_path / "own_world.py").write_text(MODULE.replace("NAME", entry))
    returns = []
    for workers in (0, 2):
        line = "fit --task gym:own_world:Mine-v0 --difficulty easy --num_envs 4 --steps 64 --device cpu"
        line += (
            f" --evaluation_episodes 4 --task_args.workers {workers} --out run{workers} --controller_args.hidden_dim 4"
        )
        assert main(line.split()) == 0
        returns.append(json.loads((tmp_path / f"run{workers}" / "result.json").read_text())["return_mean"])
    assert returns[0] == returns[1]


def test_an_environment_that_only_this_process_registers():
    """As in a notebook: a class of the main module, and no module to import it from."""

    class Local(worlds.World):
        pass

    gymnasium.register("Local-v0", entry_point=Local, max_episode_steps=5)
    alone, shared = GymTask("Local-v0"), GymTask("Local-v0", workers=2)
    same(alone.reset(3, torch.Generator().manual_seed(0)), shared.reset(3, torch.Generator().manual_seed(0)))
    shared.close()
    gymnasium.registry.pop("Local-v0")


PARENT = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
import worlds
from memsuite.tasks.gym_task import GymTask

task = GymTask("World-v0", workers=2)  # no guard of __main__: the processes do not run this script again
task.reset(4, torch.Generator().manual_seed(0))
print(*[process.pid for process in task._batch._processes], flush=True)
time.sleep(60)
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PARENT)
    folder = str(Path(worlds.__file__).parent)
    parent = subprocess.Popen([sys.executable, str(script), folder], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(running(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not any(running(pid) for pid in pids):
            break
        time.sleep(0.1)
    assert not any(running(pid) for pid in pids)
