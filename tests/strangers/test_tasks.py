"""A user's task is tried when a run begins: a mistake gives one line that names its place."""

import dataclasses
import logging
import math

import lightning.pytorch as pl
import pytest
import torch
from test_evaluation import Lists
from test_lightning import PLAIN

from memsuite.__main__ import main
from memsuite.errors import Stopped, UsageError
from memsuite.launch.messages import told_in_one_line
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig
from memsuite.tasks import Anchors, ScriptedTask
from memsuite.types import Script

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # Lightning's advice for a Trainer as it comes


class Recall(ScriptedTask):
    """The last step asks for the symbol of the first step."""

    def __init__(self, horizon=6, symbols=3, kind="plain", lure=False, sizes=(1, 2), table=None):
        self._define(horizon, {"symbol": symbols, "query": 1}, symbols)
        self.symbols, self.kind, self.lure, self.sizes = symbols, kind, lure, sizes

    def script(self, num_envs, generator):
        shown = torch.randint(self.symbols, (num_envs,), generator=generator)
        observations = torch.zeros(self.horizon, num_envs, self.observation_dim)
        observations[0, :, :-1] = torch.nn.functional.one_hot(shown, self.symbols).float()
        observations[-1, :, -1] = 1
        scored = torch.zeros(self.horizon, num_envs, dtype=torch.bool)
        scored[-1] = True
        return Script(observations, shown.expand(self.horizon, -1), scored)

    def anchors(self):
        return Anchors(1 / self.symbols, 1 / self.symbols)

    def window_anchor(self, steps):
        return 1 / self.symbols

    def bits_to_remember(self):
        return math.log2(self.symbols)

    def steps_to_remember(self):
        return self.horizon - 1


def changed(**how):
    """Return a script method with fields changed by functions of the script."""

    def script(self, num_envs, generator):
        found = Recall.script(self, num_envs, generator)
        return dataclasses.replace(found, **{name: change(found) for name, change in how.items()})

    return script


def anchored(*values):
    return {"anchors": lambda self: Anchors(*values)}


def interactive(**how):
    """Return a step method whose TimeStep has fields changed by functions of it."""

    def step(self, actions):
        found = Lists.step(self, actions)
        return dataclasses.replace(found, **{name: change(found) for name, change in how.items()})

    return {"step": step}


def forgetting(self, state, generator):
    generator.set_state(state["generator"])
    self.running.update(generator=generator, x=torch.zeros_like(state["x"]))
    return self._show(torch.zeros(len(state["x"]), dtype=torch.bool), False)


def endless(self, actions):
    self.clock[0] = 1
    return Lists.step(self, actions)


def broken(self, num_envs, generator):
    return {}["level"]


WRONG = {
    "Infinite": (Recall, anchored(0.3, math.inf), "memoryless is inf; a success lies between 0 and 1"),
    "Negative": (Recall, anchored(-0.1, 0.3), "random is -0.1"),
    "Tied": (Recall, anchored(0.1, 0.4, 0.4), "oracle 0.4 is not above memoryless 0.4"),
    "Worded": (Recall, anchored("third", 0.3), "random is 'third'; it must be a plain number"),
    "ZeroD": (Recall, anchored(torch.tensor(0.2), 0.3), "must be a plain number"),
    "Anchorless": (Recall, {"anchors": lambda self: None}, "random is None"),
    "Crashing": (Recall, {"script": broken}, r"KeyError: 'level' \(.*test_tasks.py:\d+\)"),
    "Paired": (Recall, {"script": lambda self, n, g: (1, 2)}, "must be a memsuite.types.Script"),
    "Flat": (Recall, {"script": changed(observations=lambda s: s.observations[..., 0])}, r"shape \[6, 5\]"),
    "Wide": (Recall, {"script": changed(observations=lambda s: torch.cat([s.observations] * 2, -1))}, r"\[6, 5, 8\]"),
    "Backwards": (Recall, {"script": changed(targets=lambda s: s.targets - 1)}, "targets from -1"),
    "HalfScored": (Recall, {"script": changed(scored=lambda s: 0.5 * s.scored)}, "scored of torch.float32"),
    "Endless": (Recall, {"script": changed(observations=lambda s: s.observations / 0)}, "not finite"),
    "Unasked": (Recall, {"script": changed(scored=lambda s: s.scored & False)}, "no step of 64 episodes is scored"),
    "Global": (
        Recall,
        {"script": changed(observations=lambda s: s.observations + torch.rand(()))},
        "other numbers from an equal generator",
    ),
    "Uncounted": (Recall, {"steps_to_remember": lambda self: 2.5}, r"steps_to_remember\(\) returns 2.5"),
    "Narrow": (Lists, interactive(reward=lambda now: now.reward[:1]), r"reward of shape \[1\]"),
    "Numbered": (Lists, interactive(terminated=lambda now: now.terminated.float()), "terminated of torch.float32"),
    "Undefined": (Lists, interactive(reward=lambda now: now.reward / 0), "reward that is not finite"),
    "CutShort": (
        Lists,
        interactive(truncated=lambda now: now.terminated, terminated=lambda now: now.terminated & False),
        "without its final_observation",
    ),
    "Unending": (Lists, {"step": endless}, "goes on after its horizon"),
    "Forgetting": (Lists, {"load_state_dict": forgetting}, "goes on otherwise"),
    "Opaque": (Lists, {"state_dict": lambda self: {"task": self}}, "more than plain values"),
}
for name, (base, how, _) in WRONG.items():
    globals()[name] = type(name, (base,), {"__doc__": name, "__module__": __name__, **how})


class Whole(Recall):
    """Integers where bool and 32 bits are declared, each with the intended value."""

    script = changed(
        observations=lambda s: s.observations.double(),
        targets=lambda s: s.targets.to(torch.int16),
        scored=lambda s: s.scored.to(torch.uint8),
    )


class Unknown(Recall):
    """A task with unknown anchors."""

    def anchors(self):
        return Anchors(math.nan, math.nan, math.nan)


def trained(name: str, **settings) -> MemoryPPO:
    settings = {"difficulty": "easy", "num_envs": 4, "steps": 48, "evaluation_episodes": 8} | settings
    module = MemoryPPO(task=f"{__name__}.{name}", controller_args={"hidden_dim": 4}, **settings)
    pl.Trainer(**PLAIN, max_epochs=1).fit(module)
    return module


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_that_says_where(name):
    with pytest.raises(UsageError, match=WRONG[name][2]) as told:
        trained(name)
    assert "\n" not in str(told.value)
    assert f"task {__name__}.{name}" in str(told.value)


@pytest.mark.parametrize("draws", [1, 2])
def test_whole_numbers_stand_for_what_they_mean(draws):
    one, other = (trained(name, ppo=PPOConfig(draws=draws)) for name in ("Whole", "Recall"))
    assert one.evaluate(16, "x") == other.evaluate(16, "x")
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"kind": "hard"}, "hard"),
        ({"lure": True}, True),
        ({"sizes": [3, 4]}, [3, 4]),
        ({"table": {"a": None}}, {"a": None}),
    ],
    ids=["text", "bool", "list", "mapping"],
)
def test_arguments_may_be_of_any_plain_kind(given, kept):
    module = trained("Recall", task_args=given)
    assert module.config.plain()["task_args"][next(iter(given))] == kept


@pytest.mark.parametrize(
    ("given", "words"),
    [({"symbols": "many"}, "symbols"), ({"kinds": "hard"}, "did you mean: kind"), ({"symbols": -1}, "Recall")],
)
def test_arguments_that_cannot_be_are_named(given, words):
    with pytest.raises(UsageError, match=words):
        trained("Recall", task_args=given)


def test_a_run_whose_anchors_nobody_knows_ends_with_a_summary(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = f"fit --task {__name__}.Unknown --difficulty easy --num_envs 4 --steps 48 --evaluation_episodes 8"
    assert main([*line.split(), "--device", "cpu", "--out", "run", "--controller_args.hidden_dim", "4"]) == 0
    assert "greedy success" in capsys.readouterr().out


def test_the_whole_traceback_is_in_the_log(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = f"fit --task {__name__}.Crashing --difficulty easy --num_envs 4 --steps 48 --evaluation_episodes 8"
    assert main([*line.split(), "--device", "cpu", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "in broken" in log
    assert 'return {}["level"]' in log


class Late(Recall):
    """Raises after a few steps."""

    drawn = 0

    def script(self, num_envs, generator):
        Late.drawn += 1
        if Late.drawn > 6:
            raise LookupError("the table has no more rows")
        return super().script(num_envs, generator)


def test_what_raises_on_the_way_is_one_line_with_the_traceback_in_the_log(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = f"fit --task {__name__}.Late --difficulty easy --num_envs 4 --steps 4800 --checkpoint_every 1"
    assert main([*line.split(), "--device", "cpu", "--out", "run", "--controller_args.hidden_dim", "4"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "LookupError: the table has no more rows" in said
    assert "test_tasks.py:" in said
    assert "memsuite fit --ckpt_path last" in said
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text()


def test_a_process_after_the_first_writes_its_traceback_into_the_log_too(tmp_path):
    """It has no log of its own, so what it raised was nowhere."""
    (tmp_path / "log.txt").write_text("of the first process\n")
    logger = logging.getLogger("memsuite")
    level, task = logger.level, Late()

    def train():
        with told_in_one_line(tmp_path, None, lambda: "go on"):
            for _ in range(8):
                task.script(2, torch.Generator())

    logger.setLevel(logging.CRITICAL)  # as for such a process
    try:
        with pytest.raises(Stopped, match=r"LookupError: the table has no more rows .*log.txt"):
            train()
    finally:
        logger.setLevel(level)
    written = (tmp_path / "log.txt").read_text()
    assert written.startswith("of the first process\nTraceback")
    assert "in script" in written


class Longer(Recall):
    """Passes its arguments on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


def test_a_class_that_passes_its_arguments_on_takes_those_of_its_base():
    module = trained("Longer", task_args={"symbols": 4}, horizon=8, steps=64)
    assert (module.task.horizon, module.task.num_actions) == (8, 4)
