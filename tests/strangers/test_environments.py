"""Gymnasium's contract: the outputs of an environment are checked, and a mistake gives one line that names it."""

import json
import math

import gymnasium
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_lightning import PLAIN

import memsuite
from memsuite.__main__ import main
from memsuite.errors import Stopped, UsageError
from memsuite.module import MemoryPPO
from memsuite.tasks.gym_task import GymTask

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # Lightning's advice for a Trainer as it comes
TAKEN: list[int] = []


class Given(gymnasium.Env):
    """Returns the values of its arguments at the second step; episodes have four steps."""

    def __init__(self, how="", render_mode=None, most=0.0):
        if how == "constructor":
            raise OSError("no simulator here")
        self.how, self.action_space = how, spaces.Discrete(3, start=2)
        box = spaces.Box(-9, 9, (2,), np.float32)
        self.observation_space = (
            spaces.Dict({"a": box, "action_mask": spaces.Box(0, 1, (3,))}) if "dict" in how else box
        )

    def _seen(self):
        when = 4 if "end" in self.how else 2
        usual = np.array([self.clock, 1.0], np.float32)
        seen = {
            "nan": np.array([np.nan, 0]),
            "wide": np.zeros(3),
            "narrow": np.zeros(1),
            "list": [0.5, 1.0],
            "nan at the end": np.array([np.nan, 0]),
        }.get(self.how if self.clock == when else "", usual)
        return {"a": seen, "action_mask": self._mask()} if self.how == "dict" else seen

    def _mask(self):
        return np.array([1, 0, 1] if self.clock % 2 else [0, 1, 0], np.int8)

    def _info(self):
        if self.how == "malformed":
            return {"action_mask": [1, 0]}
        if (self.how == "nothing allowed" and self.clock) or (self.how == "nothing at the end" and self.clock == 4):
            return {"action_mask": [0, 0, 0]}
        return {"action_mask": self._mask()} if self.how == "info" else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        if self.how == "reset":
            raise RuntimeError("the simulator is busy")
        return self._seen() if self.how == "old reset" else (self._seen(), self._info())

    def step(self, action):
        TAKEN.append(int(action) - 2 if self.how not in ("info", "dict") or self._mask()[action - 2] else -1)
        self.clock += 1
        rewards = {
            "none": None,
            "array": np.ones(2),
            "huge": 1e39,
            "not a number": np.nan,
            "text": "1",
            "0-d": np.array(1.0),
        }
        if self.how == "step" and self.clock == 2:
            raise RuntimeError("the simulator\nis gone")
        if self.how == "late" and len(TAKEN) > 90:
            raise RuntimeError("the simulator fell asleep")
        over = np.array([self.clock == 4]) if self.how == "array of ends" else self.clock == 4
        found = (self._seen(), rewards.get(self.how, 1.0), over, False, self._info())
        return (*found[:3], {}) if self.how == "old step" else found


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gymnasium.register("Given-v0", entry_point=Given, max_episode_steps=6)
    gymnasium.register("Boundless-v0", entry_point=Given)


def trained(how, **settings):
    settings = {
        "task": "gym:Given-v0",
        "difficulty": "easy",
        "num_envs": 2,
        "steps": 48,
        "evaluation_episodes": 4,
    } | settings
    module = MemoryPPO(**settings, task_args={"env_args": {"how": how}}, controller_args={"hidden_dim": 4})
    pl.Trainer(**PLAIN, max_epochs=1).fit(module)
    return module


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("constructor", r"OSError: no simulator here \(.*test_environments.py:\d+\)"),
        ("reset", r"reset: RuntimeError: the simulator is busy \(.*test_environments.py:\d+\)"),
        ("step", r"step 2 of an episode: RuntimeError: the simulator \(.*test_environments.py:\d+\)"),
        ("old reset", "an observation and a dict of info"),
        ("old step", "five values"),
        ("nan", "an observation is not finite"),
        ("wide", "an observation has 3 numbers; its space has 2"),
        ("narrow", "an observation has 1 numbers; its space has 2"),
        ("none", "its reward is None"),
        ("array", r"its reward is array\(\[1., 1.\]\)"),
        ("text", "its reward is '1'"),
        ("huge", r"its reward is 1e\+39"),
        ("not a number", "its reward is nan"),
        ("array of ends", "its terminated is array"),
        ("malformed", "action_mask is"),
        ("nothing allowed", "at least one must be allowed"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_environment(how, words):
    with pytest.raises(UsageError, match=words) as told:
        trained(how)
    assert "gym:Given-v0" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("how", ["", "list", "0-d", "nan at the end", "nothing at the end"])
def test_what_means_the_same_is_taken(how):
    assert trained(how).evaluate(4, "x")["return_mean"] == 4


@pytest.mark.parametrize("how", ["info", "dict"])
def test_masks_of_actions_are_obeyed(how, caplog):
    TAKEN.clear()
    module = trained(how)
    module.evaluate(4, "x")
    assert len(TAKEN) > 40
    assert -1 not in TAKEN
    assert set(TAKEN) == {0, 1, 2}
    assert "gym:Given-v0: an action that its action_mask does not allow" in caplog.text


def test_an_allowed_action_is_taken_as_it_is():
    task = GymTask("Given-v0", env_args={"how": "info"})
    task.reset(3, torch.Generator().manual_seed(0))
    TAKEN.clear()
    task.step(torch.tensor([0, 1, 2]))  # only 1 is allowed
    task.step(torch.tensor([0, 1, 2]))  # 0 and 2 are
    assert TAKEN == [1, 1, 1, 0, 2, 2]
    saved = task.state_dict()
    again = GymTask("Given-v0", env_args={"how": "info"})
    shown = again.load_state_dict(saved, torch.Generator())
    assert torch.equal(shown.observation, torch.tensor([[2.0, 1.0]] * 3))


def test_an_environment_without_a_limit_asks_for_a_horizon():
    with pytest.raises(UsageError, match=r"gym:Boundless-v0 has no step limit: .*--horizon 1000"):
        trained("", task="gym:Boundless-v0")
    assert trained("", task="gym:Boundless-v0", horizon=3).task.horizon == 3
    assert GymTask("Boundless-v0", env_args={"max_episode_steps": 5}).horizon == 5


def test_a_step_that_raises_on_the_way_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    TAKEN.clear()
    line = (
        "fit --task gym:Given-v0 --difficulty easy --num_envs 2 --steps 480 --checkpoint_every 1 --device cpu --out run"
    )
    status = main([*line.split(), "--task_args.env_args", '{"how": "late"}', "--controller_args.hidden_dim", "4"])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 1
    assert "gym:Given-v0: step" in said
    assert "the simulator fell asleep" in said
    assert "memsuite fit --ckpt_path last --out run" in said
    assert "fell asleep" in (tmp_path / "run" / "log.txt").read_text().split("Traceback", 1)[1]


def test_an_argument_that_json_lacks_ends_in_a_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "most.yaml").write_text("task_args: {env_args: {most: -.inf}}\n")
    line = "fit --config most.yaml --task gym:Given-v0 --difficulty easy --num_envs 2 --steps 16 --out run"
    assert main([*line.split(), "--device", "cpu", "--evaluation_episodes", "2"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["config"]["task_args"]["env_args"] == {"most": "-.inf"}
    assert memsuite.load("run").config["task_args"]["env_args"] == {"most": -math.inf}


def test_python_is_given_the_error_itself():
    task = GymTask("Given-v0", env_args={"how": "step"})
    task.reset(1, torch.Generator().manual_seed(0))
    task.step(torch.tensor([0]))
    with pytest.raises(Stopped) as told:
        task.step(torch.tensor([0]))
    assert isinstance(told.value.__cause__, RuntimeError)


ENVIRONMENT = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Still(gymnasium.Env):
    def __init__(self, render_mode=None):
        self.action_space, self.observation_space = spaces.Discrete(2), spaces.Box(0, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}


gymnasium.register("Still-v0", entry_point="a_still_env:Still", max_episode_steps=4)
"""
CALLBACK = """
import lightning.pytorch as pl


class Say(pl.Callback):
    def on_train_end(self, trainer, pl_module):
        print("SAID")
"""


def test_environments_and_callbacks_are_found_where_the_command_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_still_env.py").write_text(ENVIRONMENT)
    (tmp_path / "a_callback.py").write_text(CALLBACK)
    (tmp_path / "mine.yaml").write_text("trainer: {callbacks: [{class_path: a_callback.Say}]}\n")
    line = "fit --config mine.yaml --task gym:a_still_env:Still-v0 --difficulty easy --num_envs 2 --steps 16 --out run"
    assert main([*line.split(), "--device", "cpu", "--evaluation_episodes", "2"]) == 0
    assert "SAID" in capsys.readouterr().out
