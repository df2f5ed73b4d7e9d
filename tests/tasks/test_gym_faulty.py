"""Gymnasium environments that are not what they say: each fault is one line that names it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

import numpy as np  # noqa: E402
from gymnasium import spaces  # noqa: E402

from memsuite.__main__ import main  # noqa: E402
from memsuite.errors import Stopped, UsageError  # noqa: E402
from memsuite.rl.saved.resume import start_acting  # noqa: E402
from memsuite.tasks.gym_task import GymTask  # noqa: E402

LENGTHS = iter(())


class Restless(gymnasium.Env):
    """Its episodes end after a number of steps that no seed decides; a step after the end is a mistake."""

    def __init__(self, render_mode=None):
        self.action_space, self.observation_space = spaces.Discrete(2), spaces.Box(0, 99, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock, self.length = 0, next(LENGTHS)
        return np.array([self.clock, self.length], np.float32), {}

    def step(self, action):
        assert self.clock < self.length, "stepped after its end"
        self.clock += 1
        return np.array([self.clock, self.length], np.float32), 1.0, self.clock == self.length, False, {}


class Shows(gymnasium.Env):
    """Shows what it is given, in a space that it is given."""

    def __init__(self, space=None, shown=None, last=None, render_mode=None):
        self.action_space, self.observation_space = spaces.Discrete(2), space
        self.shown, self.last = shown, shown if last is None else last

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.shown, {}

    def step(self, action):
        self.clock += 1
        return self.last if self.clock == 4 else self.shown, 0.0, False, self.clock == 4, {}


class Hangs(Shows):
    """Does not return from its second step."""

    def step(self, action):
        if self.clock == 1:
            time.sleep(1000)
        return super().step(action)


for cls in (Restless, Shows, Hangs):
    gymnasium.register(f"Faulty{cls.__name__}-v0", cls, max_episode_steps=50)


def shows(space, shown, last=None, **arguments):
    return GymTask("FaultyShows-v0", env_args={"space": space, "shown": shown, "last": last}, **arguments)


def began(task, count=1):
    return task.reset(count, torch.Generator().manual_seed(0))


def test_an_episode_that_cannot_be_gone_on_with_is_followed_by_a_new_one(monkeypatch):
    """The third environment's saved episode of five steps ends after three when it is played again."""
    task = GymTask("FaultyRestless-v0")
    monkeypatch.setitem(globals(), "LENGTHS", iter((9, 9, 9)))
    began(task, 3)
    for _ in range(5):
        task.step(torch.zeros(3, dtype=torch.int64))
    generator = torch.Generator().manual_seed(1)
    saved = {
        "task": task.state_dict(),
        "state": torch.ones(3, 4),
        "running_return": torch.full((3,), 5.0),
        "generators": {"task": task.state_dict()["generator"]},
    }
    monkeypatch.setitem(globals(), "LENGTHS", iter((9, 6, 3, 8)))
    actor, gathered = start_acting(GymTask("FaultyRestless-v0"), torch.nn.Linear(1, 1), 3, {"task": generator}, saved)
    assert actor.timestep.observation.tolist() == [[5, 9], [5, 6], [0, 8]]
    assert actor.timestep.is_first.tolist() == [False, False, True]
    assert gathered.tolist() == [5, 5, 0]


IMAGE = spaces.Box(0, 255, (3, 32, 24), np.uint8)
WRONG = {
    "channels at the other end": (
        IMAGE,
        np.zeros((32, 24, 3), np.uint8),
        r"has the shape \[32, 24, 3\]; its space has",
    ),
    "a transposed table": (spaces.Box(0, 1, (2, 3)), np.zeros((3, 2), np.float32), r"its space has \[2, 3\]"),
    "half a bit": (spaces.MultiBinary(3), np.array([0.7, 0.2, 1.0]), "which is not in its space, MultiBinary"),
    "two in a bit": (spaces.MultiBinary(3), np.array([0, 2, 1]), "which is not in its space, MultiBinary"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_observation_of_another_form_is_refused(what):
    space, shown, said = WRONG[what]
    with pytest.raises(Stopped, match=f"reset: ValueError: an observation.*{said}"):
        began(shows(space, shown))


@pytest.mark.parametrize("shown", [np.zeros((3, 1), np.float32), [0.0, 0.5, 1.0], np.zeros((1, 3), np.float32)])
def test_dimensions_of_one_and_lists_are_taken(shown):
    assert began(shows(spaces.Box(0, 1, (3,)), shown)).observation.shape == (1, 3)


def test_bits_may_be_real_numbers():
    assert began(shows(spaces.MultiBinary(3), np.array([0.0, 1.0, 1.0]))).observation.tolist() == [[0, 1, 1]]


def test_the_last_observation_of_a_cut_episode_is_named_by_its_step():
    task = shows(spaces.Box(0, 1, (2,)), np.zeros(2, np.float32), np.array([0, np.nan], np.float32))
    began(task)
    for _ in range(3):
        task.step(torch.zeros(1, dtype=torch.int64))
    with pytest.raises(Stopped, match="step 4 of an episode: an observation is not finite"):
        task.step(torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("keys", [(), ("x",)])
def test_a_part_without_numbers_is_named(keys):
    space = spaces.Dict({"x": spaces.Dict({}), "y": spaces.Discrete(2)})
    with pytest.raises(UsageError, match="have a part without numbers; name the others with keys"):
        shows(space, {"x": {}, "y": 0}, keys=keys)


def test_more_numbers_than_a_machine_holds_are_refused_at_once():
    with pytest.raises(UsageError, match="its observations have 1,000,000,000,000 numbers"):
        shows(spaces.Discrete(10**12), 0)

    class Many(Shows):
        def __init__(self, **given):
            super().__init__(**given)
            self.action_space = spaces.Discrete(10**8)

    gymnasium.register("FaultyMany-v0", Many, max_episode_steps=50)
    with pytest.raises(UsageError, match="its actions need 100,000,000 numbers, one for each value"):
        GymTask("FaultyMany-v0", env_args={"space": spaces.Discrete(2), "shown": 0})


def test_a_large_mask_is_quick_and_leaves_out_what_it_names():
    space, size = spaces.Box(0, 255, (80, 80, 3), np.uint8), 80 * 80 * 3
    began_at = time.process_time()
    shown = np.arange(size, dtype=np.int64).astype(np.uint8).reshape(space.shape)
    task = shows(space, shown, image="flatten", mask=list(range(0, size, 2)))
    assert time.process_time() - began_at < 2
    assert torch.equal(began(task).observation[0], torch.from_numpy(shown.flatten()[1::2].copy()).float())


def test_stopping_at_a_target_needs_a_success(tmp_path, capsys):
    (tmp_path / "stop.yaml").write_text("trainer: {callbacks: [{class_path: memsuite.callbacks.StopAtTarget}]}")
    line = "fit --task gym:CartPole-v1 --num_envs 8 --steps 8000 --device cpu"
    assert main([*line.split(), "--config", str(tmp_path / "stop.yaml"), "--out", str(tmp_path / "x")]) == 2
    err = capsys.readouterr().err
    assert "StopAtTarget: gym:CartPole-v1 scores no decision, so there is no success to stop at" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the processes from /proc")
def test_a_worker_that_hangs_ends_after_its_parent(tmp_path):
    lines = (
        "import torch, test_gym_faulty as own",
        "given = {'space': own.spaces.Discrete(2), 'shown': 0}",
        "task = own.GymTask('FaultyHangs-v0', workers=2, env_args=given)",
        "own.began(task, 2)",
        "print(*[one.pid for one in task._batch._processes], flush=True)",
        "while True: task.step(torch.zeros(2, dtype=torch.int64))",
    )
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), *sys.path])
    command, env = [sys.executable, "-c", "\n".join(lines)], {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(1)
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.2)
    left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(workers) == 2
    assert left == []
