"""Suite files of strangers: the runs are those that the axes say, or one line says what is wrong and in which file."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

import yaml
from examples import fuzz, judged
from hypothesis import strategies as st

from memsuite.cli.suite_check import check
from memsuite.suite.grid import read_suite

AXES: dict[str, list[Any]] = {
    "controller": ["gru", "lstm", "lru", "mingru"],
    "seed": [0, 1, 7, 2**32 - 1],
    "difficulty": ["easy", "medium", "hard"],
    "task": ["delayed_cue", "copy_memory", "n_back"],
    "num_envs": [8, 16, 64],
    "model.ppo.learning_rate": [1e-3, 3e-3, "1e-4"],
    "objective": ["ppo", "supervised"],
    "controller_args.hidden_dim": [4, 8],
}
USUAL = {"task": "delayed_cue", "difficulty": "easy", "controller": "gru", "steps": 10**6, "num_envs": 8}
ODD: dict[str, Any] = {
    "nothing": None,
    "text": "words",
    "a number": 7,
    "a list": [1, 2],
    "a list of lists": [[1], [2]],
    "a mapping": {"a": 1},
    "true": True,
    "a date": "2001-01-01",
}
# A key of a suite, and the kinds of values that it cannot have.
WRONG = {
    "grid": ["text", "a number", "a list", "a list of lists", "a mapping", "true"],
    "settings": ["text", "a number", "a list", "a mapping", "true"],
    "entries": ["text", "a number", "a list", "a mapping", "true"],
    "overrides": ["text", "a number", "a list", "a mapping", "true"],
    "exclude": ["text", "a number", "a list", "a mapping", "true"],
    "config": ["text", "a number", "a list", "a mapping", "true"],
    "name": ["a number", "a list", "a mapping", "true"],
    "ray": ["text", "a number", "a list", "true"],
    "magic": list(ODD),
    "Grid": list(ODD),
}
SETTINGS = {  # a setting and values that no run can have
    "controller": ["gruu", "", 3, ["gru"], "no.Module", {"a": 1}, None],
    "task": ["../.", "delayed_cu", 1.5, "no.Task", "gym:No-v0", "gym:"],
    "difficulty": ["Easy", 0, None],
    "seed": [-1, 2**32, "one", 1.5, True, [1]],
    "num_envs": [0, -8, "8x", 1.5, 2**70],
    "steps": [0, "-1", "many", 10, 1e300],
    "horizon": [1, -5, "long", 10**10],
    "evaluation_episodes": [0, "a"],
    "objective": ["win", 3],
    "model.ppo.clip": [-0.1, "x", ".nan", ".inf"],
    "model.ppo.draws": [0, 3, "x"],
    "model.ppo.critic": ["all"],
    "model.ppo.magic": [1],
    "model": [3, "x"],
    "modell": [{"ppo": {}}],
    "controller_args": [3, "x", {"hidden_dim": "wide"}, {"magic": 1}, {"hidden_dim": -1}, {1: 2}],
    "task_args": [{"num_cues": "x"}, {"num_cues": 10**30}, {"magic": 1}, {"num_cues": [4]}],
    "out": ["elsewhere"],
    "ckpt_path": ["last"],
    "trainer.max_epochs": [5],
    "trainer.precision": ["16-mixed", "half"],
    "trainer.callbacks": [[{"class_path": "no.Callback"}], 3],
    "device": ["gpu7", "tpu"],
    "a\nb": [1],
}
TEXTS = {
    "tab": lambda text: "a:\n\tb: 1\n" + text,
    "cut": lambda text: text + "\nname: 'a",
    "twice": lambda text: text + "\nsettings: {}\n",
    "empty": lambda text: "",
    "a list": lambda text: "- 1\n",
    "two documents": lambda text: text + "\n---\na: 1\n",
    "an object": lambda text: text + "\ndescription: !!python/object/apply:os.system ['true']\n",
    "an anchor of none": lambda text: text + "\ndescription: *nothing\n",
    "deep": lambda text: text + "\ndescription: " + "[" * 5000,
    "control": lambda text: text + "\ndescription: 'a\x01b'\n",
    "merged": lambda text: text + "\ndescription: {<<: 3}\n",
    "an unhashable key": lambda text: text + "\ndescription: {[1, 2]: 3, {a: 1}: 2}\n",
}
FAULTS = [
    *(f"key: {key}: {kind}" for key, kinds in WRONG.items() for kind in kinds),
    *(f"setting: {key}: {index}" for key, values in SETTINGS.items() for index in range(len(values))),
    *(f"axis: {key}: {index}" for key, values in SETTINGS.items() for index in range(len(values))),
    *(f"text: {name}" for name in TEXTS),
    *("other: an empty axis", "other: no run left", "other: exclude of none", "other: override of none"),
    *("other: too many", "other: twice the same", "other: a name of dots"),
]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A suite.

    Attributes:
        axes: keys and values of the grid.
        entries: settings of each entry, beside its name; none stands for a suite without entries.
        excluded: whether the first value of the first axis is left out.
        changed: whether runs with the last value of the last axis get 10 steps more.
        fault: what is wrong; empty if nothing is.
    """

    axes: tuple[tuple[str, tuple[Any, ...]], ...]
    entries: tuple[tuple[str, Any], ...]
    excluded: bool
    changed: bool
    fault: str


@st.composite
def plans(draw: Any) -> Plan:
    """Draw a suite; half of them have a fault."""
    keys = draw(st.lists(st.sampled_from(list(AXES)), min_size=1, max_size=3, unique=True))
    axes = [
        (key, tuple(draw(st.lists(st.sampled_from(AXES[key]), min_size=1, max_size=3, unique=True)))) for key in keys
    ]
    free = [key for key in AXES if key not in keys]
    entries = draw(st.lists(st.sampled_from([(key, AXES[key][0]) for key in free]), max_size=2, unique=True))
    excluded = len(axes[0][1]) > 1 and draw(st.booleans())
    fault = draw(st.one_of(st.just(""), st.sampled_from(FAULTS)))
    return Plan(tuple(axes), tuple(entries), excluded, draw(st.booleans()), fault)


def content_of(plan: Plan) -> dict[str, Any]:
    """Return what a suite without its fault holds."""
    content: dict[str, Any] = {
        "name": "drawn",
        "settings": dict(USUAL),
        "grid": {key: [*each] for key, each in plan.axes},
    }
    if plan.entries:
        content["entries"] = [{"name": f"e{index}", key: value} for index, (key, value) in enumerate(plan.entries)]
    if plan.excluded:
        content["exclude"] = [{plan.axes[0][0]: plan.axes[0][1][0]}]
    if plan.changed:
        key, values = plan.axes[-1]
        content["overrides"] = [{"when": {key: values[-1]}, "settings": {"steps": 10**6 + 10}}]
    return content


def with_fault(plan: Plan) -> str:
    """Return the text of a suite with its fault."""
    content, (where, _, rest) = copy.deepcopy(content_of(plan)), plan.fault.partition(": ")
    key, _, which = rest.rpartition(": ")
    if where == "key":
        content[key] = ODD[which]
    elif where in ("setting", "axis"):
        value = SETTINGS[key][int(which)]
        # An axis of the setting, or of something in it, would be stronger than a setting, and right.
        content["grid"] = {axis: each for axis, each in content["grid"].items() if not f"{axis}.".startswith(f"{key}.")}
        if not content["grid"]:
            content["grid"] = {"task": ["delayed_cue"]} if key == "seed" else {"seed": [0]}
        content.pop("entries", None)
        content.pop("exclude", None)
        content.pop("overrides", None)
        content["grid" if where == "axis" else "settings"][key] = [value] if where == "axis" else value
    first, values = plan.axes[0]
    content |= {
        "an empty axis": {"grid": {"seed": []}},
        "no run left": {"exclude": [{first: [*values]}]},
        "exclude of none": {"exclude": [{"controller": "mamba2"}]},
        "override of none": {"overrides": [{"when": {"seed": 99}, "settings": {"steps": 1}}]},
        "too many": {"grid": {f"trainer.k{index}": list(range(10)) for index in range(5)}},
        "twice the same": {"entries": [{"seed": 5}, {"seed": 5}]},
        "a name of dots": {"name": "../up"},
    }.get(rest if where == "other" else "", {})
    if rest == "twice the same":
        content.pop("exclude", None)
    text = yaml.safe_dump(content, sort_keys=False)
    return TEXTS[rest](text) if where == "text" else text


def expected(plan: Plan) -> list[dict[str, Any]]:
    """List the settings of the runs that a suite without a fault stands for."""
    names = [key for key, _ in plan.axes]
    combinations = [dict(zip(names, each, strict=True)) for each in itertools.product(*(each for _, each in plan.axes))]
    found = []
    for key, value in plan.entries or [("", None)]:
        for axes in combinations:
            settings = {**USUAL, **({key: value} if key else {}), **axes}
            if plan.excluded and settings[plan.axes[0][0]] == plan.axes[0][1][0]:
                continue
            if plan.changed and settings[plan.axes[-1][0]] == plan.axes[-1][1][-1]:
                settings["steps"] = 10**6 + 10
            found.append(settings)
    return found


@functools.cache
def place() -> Path:
    """Make the folder of all examples."""
    return Path(tempfile.mkdtemp(prefix="fuzz"))


def ordered(runs: list[dict[str, Any]]) -> list[str]:
    """Return runs in an order of their own, as texts."""
    return sorted(repr(sorted(run.items(), key=lambda item: item[0])) for run in runs)


@fuzz(plans(), quick=12)
def test_suites(plan: Plan) -> None:
    """A suite holds the runs of its axes, each once and with its settings, and each can be built."""
    file = place() / "changed.yaml"
    file.write_text(with_fault(plan))

    def build() -> Any:
        suite = read_suite(file)
        try:
            check(suite.runs[:3], elsewhere=False)
        except ValueError as error:
            raise type(error)(f"{suite.source}: {error}") from error
        return suite

    suite = judged("suite files", {plan.fault} - {""}, "changed.yaml", build)
    if suite is not None:
        assert ordered([run.settings for run in suite.runs]) == ordered(expected(plan))
        assert len({run.folder for run in suite.runs}) == len(suite.runs)
        assert all(run.folder.is_relative_to(Path("runs/drawn")) for run in suite.runs)
