"""What the fuzz has found: each kind of fault once, as it was, with what must be said of it."""

import json
import sys
from pathlib import Path

import gymnasium
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_evaluation import Leaky, Lists
from test_lightning import PLAIN, small
from test_tasks import Recall, changed, interactive

from memsuite.__main__ import main
from memsuite.blame import in_one_line
from memsuite.cli.suite_check import check
from memsuite.errors import LINE, Stopped, UsageError
from memsuite.imports import class_at, file_in
from memsuite.rl import PPOConfig
from memsuite.suite.grid import read_suite
from memsuite.tasks.gym_task import GymTask

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
from made import result

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # Lightning's advice for a Trainer as it comes


class BeginsAnew(Leaky):
    """Reads every sequence from the beginning, whatever state it is given."""

    def forward_sequence(self, x, state, is_first):
        return super().forward_sequence(x, self.init_state(x.shape[1]), is_first)


class LosesItsEnd(Leaky):
    """Returns another state than the last one of a sequence."""

    def forward_sequence(self, x, state, is_first):
        features, state = super().forward_sequence(x, state, is_first)
        return features, 0 * state


class WritesItsInput(Leaky):
    """Cuts its input in place, which the critic and the next epoch read."""

    def forward_step(self, x, state):
        with torch.no_grad():
            x.clamp_(0.1, 0.2)
        return super().forward_step(x, state)


class DividesByBlanks(Leaky):
    """Is not finite where nothing is shown."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return feature / x.abs().sum(1, keepdim=True), state


class Ends(Leaky):
    """Ends the whole process with the status of success."""

    def forward_step(self, x, state):
        sys.exit(0)


class Unshowable(Exception):
    """Its text cannot be made."""

    def __str__(self):
        raise RuntimeError


class Hides(Leaky):
    """Raises an error without a text."""

    def forward_step(self, x, state):
        raise Unshowable


WRONG = {
    BeginsAnew: "step by step, from the state that it is given",
    LosesItsEnd: "step by step, with the state that it returns",
    WritesItsInput: "writes into the observations",
    DividesByBlanks: "not finite, before anything is learnt",
    Ends: r"SystemExit: 0 \(.*test_found.py:\d+\)",
    Hides: r"Unshowable: its text cannot be shown \(.*test_found.py:\d+\)",
}


@pytest.mark.parametrize("draws", [1, 2])
@pytest.mark.parametrize("cls", WRONG, ids=lambda cls: cls.__name__)
def test_controllers(cls, draws):
    module = small(controller=f"{__name__}.{cls.__name__}", controller_args={}, ppo=PPOConfig(draws=draws))
    with pytest.raises(UsageError, match=WRONG[cls]) as told:
        pl.Trainer(**PLAIN, max_epochs=1).fit(module)
    assert str(told.value).splitlines() == [str(told.value)]


class Widthless(Leaky):
    """The width of its features is none."""

    def __init__(self, input_dim):
        super().__init__(input_dim)
        self.feature_dim = -1


def test_a_width_below_one():
    with pytest.raises(UsageError, match="feature_dim is -1; it must be a whole number above 0"):
        small(controller=f"{__name__}.Widthless", controller_args={})


def loaded_late(self, state, generator):
    shown = Lists.load_state_dict(self, state, generator)
    self.running["x"] = 1 - self.running["x"]  # the right actions are others than before
    return shown


def moody(script):
    return torch.randint_like(script.targets, 3)


TASKS = {
    "Complex": (Recall, {"script": changed(observations=lambda s: s.observations + 0j)}, "of complex numbers"),
    "Moody": (
        Recall,
        {"script": changed(targets=moody)},
        "from an equal generator",
    ),
    "NeverFirst": (Lists, interactive(is_first=lambda now: now.is_first & False), "true where an episode begins"),
    "AlwaysFirst": (Lists, interactive(is_first=lambda now: now.is_first | True), "true where an episode begins"),
    "Unasked": (
        Lists,
        interactive(scored=lambda now: now.scored & False, correct=lambda now: ~now.correct),
        "correct where",
    ),
    "Otherwise": (Lists, {"load_state_dict": loaded_late}, r"goes on otherwise .*\(another (reward|observation)\)"),
    "NarrowEnd": (
        Lists,
        interactive(
            truncated=lambda now: now.is_first,
            terminated=lambda now: now.is_first & False,
            final_observation=lambda now: now.observation[:, :0],
        ),
        r"final_observation of shape \[5, 0\]; it must be \[5, 1\]",
    ),
}
for name, (base, how, _) in TASKS.items():
    globals()[name] = type(name, (base,), {"__doc__": name, "__module__": __name__, **how})


@pytest.mark.parametrize("name", TASKS)
def test_tasks(name):
    module = small(task=f"{__name__}.{name}", horizon=5, steps=40, ppo=PPOConfig(draws=1))
    with pytest.raises(UsageError, match=TASKS[name][2]):
        pl.Trainer(**PLAIN, max_epochs=1).fit(module)


class Shows(gymnasium.Env):
    """Shows what it is given in a space that it is given."""

    seen, space, end = None, None, False

    def __init__(self, render_mode=None):
        self.action_space = spaces.Discrete(2)
        if self.space is not None:
            self.observation_space = self.space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen, {}

    def step(self, action):
        return self.seen, 1.0, self.end, False, {}


BYTES, PAIR = spaces.Box(0, 255, (2,), np.uint8), spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])


@pytest.mark.parametrize(
    ("space", "seen", "words"),
    [
        (BYTES, np.array([0.5, 1.0]), "cannot hold"),  # was cut to 0
        (BYTES, np.array([256, 1]), "cannot hold"),  # was shown as 0
        (spaces.Box(0, 1, (2,)), np.array([1j, 0]), "cannot hold"),  # was shown as 0
        (spaces.Discrete(4), -1, "not in its space"),  # was shown as 3
        (spaces.MultiDiscrete([2, 3]), np.array([2, 0]), "not in its space"),  # was shown as of the next part
        (PAIR, (1, 1, 1), "longer"),  # was left out
        (None, 0, "its observations, None, have no fixed size"),  # was a traceback
    ],
)
def test_environments(monkeypatch, space, seen, words):
    monkeypatch.setattr(Shows, "space", space)
    monkeypatch.setattr(Shows, "seen", seen)
    gymnasium.registry.pop("Shows-v0", None)
    gymnasium.register("Shows-v0", entry_point=Shows, max_episode_steps=4)
    with pytest.raises((UsageError, Stopped), match=f"gym:Shows-v0: .*{words}"):
        GymTask("Shows-v0").reset(1, torch.Generator())


@pytest.mark.parametrize("end", [float("nan"), 0.5, 2])
def test_an_end_that_is_neither(monkeypatch, end):
    monkeypatch.setattr(Shows, "space", BYTES)
    monkeypatch.setattr(Shows, "seen", np.array([3, 4], np.uint8))
    monkeypatch.setattr(Shows, "end", end)
    gymnasium.registry.pop("Shows-v0", None)
    gymnasium.register("Shows-v0", entry_point=Shows, max_episode_steps=4)
    task = GymTask("Shows-v0")
    assert task.reset(1, torch.Generator()).observation.tolist() == [[3.0, 4.0]]
    with pytest.raises(Stopped, match="it must be true or false"):
        task.step(torch.tensor([0]))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"horizon": 0}, "horizon is 0; it must be at least 1"),
        ({"env_steps": -1}, "env_steps is -1; it must be at least 0"),
        ({"parameters": 0}, "parameters is 0; it must be at least 1"),
        ({"score": 1e300}, "score is 1e+300; 0 is the success without memory"),
        ({"oracle": 1.5}, "oracle is 1.5; it must be between 0 and 1"),
        ({"success": 0.5, "success_low": 0.6}, "success is 0.5, outside its interval, 0.6 to 1.0"),
        ({"seed": ...}, "it has no 'seed'"),  # was left out of the summary
    ],
)
def test_results(tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.chdir(tmp_path)
    runs = [{key: value for key, value in (result(seed=0) | more).items() if value is not ...}, result(seed=1)]
    Path("r.json").write_text(json.dumps(runs))
    assert main(["compare", "--results", "r.json"]) == 2
    assert words in capsys.readouterr().err


def test_a_name_that_comes_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("r.json").write_text(json.dumps([result()]).replace('"success": ', '"success": 0.1, "success": ', 1))
    assert main(["compare", "--results", "r.json"]) == 2
    assert "r.json gives 'success' twice in one mapping" in capsys.readouterr().err


def test_a_module_that_ends_the_process_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a_script.py").write_text("import sys\n\nsys.exit(0)\n")
    with pytest.raises(UsageError, match=r"cannot be imported: SystemExit: 0 \(a_script.py:3\)"):
        class_at("a_script.Mine", object, "controller")


class EndsLate(Recall):
    """Ends the process in the middle of a run."""

    drawn = 0

    def script(self, num_envs, generator):
        EndsLate.drawn += 1
        return super().script(num_envs, generator) if EndsLate.drawn < 7 else sys.exit(0)


def test_a_run_that_is_ended_from_within_does_not_end_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = f"fit --task {__name__}.EndsLate --difficulty easy --num_envs 4 --steps 4800 --device cpu --out run"
    assert main([*line.split(), "--controller_args.hidden_dim", "4"]) == 1
    assert "SystemExit: 0 (" in capsys.readouterr().err.splitlines()[-1]


def test_messages_are_one_short_line_whatever_they_hold():
    for kind in (UsageError, Stopped):
        text = str(kind("a\r\n\x1b[31mb\ud800" + "x" * 10**6 + "the fix"))
        assert text.isprintable()
        assert text.startswith("a  ?[31mb?xxx")
        assert text.endswith("the fix")
        assert len(text) < LINE
    assert in_one_line(ValueError("a\r\x1b[0mb\nc")) == "ValueError: a"


@pytest.mark.parametrize("name", ["..", "../.", "a..b", "/.x", "."])
def test_what_is_no_name_of_a_module_is_looked_for_in_no_folder(name, tmp_path):
    assert file_in(tmp_path, name) is None
    (tmp_path / "s.yaml").write_text(
        f"name: drawn\nsettings: {{steps: 1000000, task: '{name}'}}\ngrid: {{seed: [0]}}\n"
    )
    with pytest.raises(UsageError):
        check(read_suite(tmp_path / "s.yaml").runs, elsewhere=False)
