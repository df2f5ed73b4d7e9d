"""Checkpoints of strangers: each with one drawn change is refused in one line, or means what it says."""

from __future__ import annotations

import copy
import dataclasses
import functools
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from examples import fuzz, judged
from hypothesis import strategies as st

import memsuite
from memsuite.callbacks import RunRecord
from memsuite.module import MemoryPPO
from memsuite.rl.saved.fits import check_run
from memsuite.runs.checkpoints import read_checkpoint
from memsuite.storage import AtomicCheckpointIO, MetricsCSV

RUN = {"difficulty": "easy", "horizon": 6, "num_envs": 8, "steps": 96, "evaluation_episodes": 4, "seed": 3}
ODD: dict[str, Any] = {
    "nothing": None,
    "text": "text" * 500,
    "controls": "a\r\n\x1b[31mred",
    "a list": [1, "a", None],
    "a mapping": {"a": {}},
    "keys that are numbers": {1: 2},
    "a number": 0.5,
    "NaN": float("nan"),
    "a whole number below 0": -3,
    "many digits": 10**400,
    "true": True,
    "complex": 1j,
    "a tensor": torch.zeros(3, 7),
    "NaN in a tensor": torch.full((2,), torch.nan),
    "a tensor of whole numbers": torch.zeros(16, 4, dtype=torch.int32),
    "a tensor of bits": torch.zeros(4, dtype=torch.bool),
    "a complex tensor": torch.zeros(4, dtype=torch.complex64),
    "a tensor without numbers": torch.zeros(4, device="meta"),
    "a sparse tensor": torch.zeros(4, 4).to_sparse(),
    "a wide tensor of one number": torch.zeros(1).expand(10**6, 1000),
    "an empty tensor": torch.zeros(0),
    "bytes": torch.zeros(5056, dtype=torch.uint8),
}
# Settings of which none fits the checkpoint.
NAMES: dict[str, list[Any]] = {
    "task": ["evil.Task", "gym:evil:X-v0", "os.system", "delayed_cue.", "no_task", "../delayed_cue"],
    "controller": ["evil.Controller", "os.system", "torch.nn.Linear", "nothing", ".gru", "memsuite.evil.X"],
    "difficulty": ["impossible", "", "easy\n"],
    "objective": ["win"],
    "num_envs": [7, 10**9, 0, -8],
    "horizon": [1, 10**12, -1, 0],
    "seed": [-1, 2**40],
    "controller_args": [{"hidden_dim": 10**7}, {"hidden_dim": 8}, {"depth": 10**9}, {"magic": 1}, {"hidden_dim": "4"}],
    "task_args": [{"num_cues": 10**9}, {"magic": 1}, {"num_cues": None}, {"num_cues": "a: [x"}],
}


@functools.cache
def run() -> tuple[Path, dict[str, Any]]:
    """Train a run and return its folder and what its checkpoint holds."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    module = MemoryPPO(**RUN, controller_args={"hidden_dim": 4})
    plain = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        **plain,
        accelerator="cpu",
        max_epochs=1,
        logger=[MetricsCSV(folder)],
        callbacks=[RunRecord(folder)],
        plugins=[AtomicCheckpointIO()],
    )
    trainer.fit(module)
    trainer.save_checkpoint(folder / "whole.ckpt")
    return folder, torch.load(folder / "whole.ckpt", weights_only=True)


@functools.cache
def paths() -> list[tuple[Any, ...]]:
    """List the place of every value in a checkpoint."""
    found: list[tuple[Any, ...]] = []

    def visit(value: Any, above: tuple[Any, ...]) -> None:
        if above:
            found.append(above)
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        if len(above) < 9 and not (isinstance(value, list | tuple) and len(value) > 100):
            for key, each in items:
                visit(each, (*above, key))

    visit(run()[1], ())
    return found


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a nested value with one of its parts replaced, or taken away if the value is the class itself."""
    if not path:
        return value
    key, *rest = path
    if isinstance(content, dict):
        new = {**content, key: changed(content[key], tuple(rest), value)}
        return {name: each for name, each in new.items() if each is not GONE}
    parts = [changed(each, tuple(rest), value) if index == key else each for index, each in enumerate(content)]
    return type(content)(each for each in parts if each is not GONE)


GONE = object()
NEEDED = [("memsuite",), *(("memsuite", name) for name in ("config", "iteration"))]
NEEDED += [("memsuite", "config", "ppo"), ("memsuite", "run", "guard")]


@dataclasses.dataclass(frozen=True)
class Change:
    """What is changed in a checkpoint.

    Attributes:
        kind: ``value``, ``gone``, ``name``, ``bit``, ``cut``, ``packed``, ``legal`` or ``larger``.
        path: where.
        value: what is put there; the name of one of :data:`ODD`, or the value itself.
        where: a place in the file, from 0 to 1.
    """

    kind: str
    path: tuple[Any, ...]
    value: Any
    where: float


@st.composite
def changes(draw: Any) -> Change:
    """Draw a change."""
    kind = draw(st.sampled_from(["value"] * 4 + ["gone", "name", "name", "bit", "cut", "packed", "legal"]))
    path = draw(st.sampled_from(paths()))
    value = draw(st.sampled_from(list(ODD)))
    if kind == "name":
        name = draw(st.sampled_from(list(NAMES)))
        path, value = ("memsuite", "config", name), draw(st.sampled_from(NAMES[name]))
    if kind == "legal":
        value = draw(st.sampled_from(["scaled", "64 bits", "more callbacks", "no optimiser"]))
    return Change(kind, path, value, draw(st.floats(0, 1, exclude_max=True)))


def written(change: Change, file: Path) -> dict[str, Any]:
    """Write the checkpoint with its change, and return what it holds, if it is known."""
    folder, content = run()
    whole = (folder / "whole.ckpt").read_bytes()
    if change.kind in ("bit", "cut", "packed"):
        at = int(change.where * len(whole))
        file.write_bytes(whole[:at] if change.kind == "cut" else whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if change.kind == "packed":
            with zipfile.ZipFile(folder / "whole.ckpt") as one, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as two:
                for part in one.infolist():
                    two.writestr(part.filename, one.read(part))
        return content
    content = copy.deepcopy(content)
    weights = content["state_dict"]
    if change.kind == "legal":
        if change.value in ("scaled", "64 bits"):
            content["state_dict"] = {
                name: 1.5 * tensor if change.value == "scaled" else tensor.double() for name, tensor in weights.items()
            }
        elif change.value == "more callbacks":
            content["callbacks"]["Mine{'a': 1}"] = {"seen": [1, 2], "best": 0.5}
        else:
            content = {name: each for name, each in content.items() if name not in ("optimizer_states", "loops")}
    else:
        value = {"value": ODD.get(str(change.value)), "gone": GONE, "name": change.value}[change.kind]
        content = changed(content, change.path, value)
    torch.save(content, file)
    return content


def faults(change: Change) -> set[str] | None:
    """Return what must be refused; None for a change that may be harmless."""
    if change.kind in ("cut", "packed", "name"):
        return {f"{change.kind} {change.path} {change.value}"}
    first, *rest = change.path
    weights = first == "state_dict" and (change.kind == "gone" or bool(rest))
    if change.kind in ("value", "gone") and (weights or change.path in NEEDED):
        return {f"{change.path} is {change.value}"}
    return set() if change.kind == "legal" else None


@fuzz(changes(), quick=60)
def test_checkpoints(change: Change) -> None:
    """What is taken holds the weights and the settings that the file holds, and a run can go on from it."""
    file = run()[0] / "changed.ckpt"
    content = written(change, file)

    def build() -> MemoryPPO:
        module = memsuite.load(file)
        checkpoint = read_checkpoint(file)
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        if {"optimizer_states", "loops"} <= set(checkpoint):
            check_run(file, checkpoint, module, trainer)
        return module

    module = judged("checkpoints", faults(change), "changed.ckpt", build)
    if module is not None:
        check_taken(module, content)


def check_taken(module: MemoryPPO, content: dict[str, Any]) -> None:
    """Assert that a module is what its checkpoint holds: every weight, every setting, every count."""
    weights = module.state_dict()
    assert set(weights) == set(content["state_dict"])
    for name, tensor in content["state_dict"].items():
        assert torch.equal(weights[name].double(), tensor.double())
        assert torch.isfinite(weights[name]).all()
    saved, config = content["memsuite"], module.config.plain()
    for name, value in saved["config"].items():
        if isinstance(value, dict):
            given = {key: each for key, each in value.items() if each is not None}  # None leaves a setting open
            assert {key: config[name][key] for key in given} == given, name
        elif value is not None:
            assert config[name] == value, name
    assert module.iteration == saved["iteration"]
    assert module.env_steps == saved.get("env_steps", module.env_steps)
    outcome = module.evaluate(4, "test")
    assert 0 <= outcome["success"] <= 1
