"""The files of a run without times, to compare a disturbed run with an undisturbed one, bit for bit."""

from __future__ import annotations

import json

import torch

TIMES = ("steps_per_second", "wall_seconds", "cpu_seconds", "hardware", "versions", "commit", "command")
TIMES += ("wall_seconds_to_target", "cpu_seconds_to_target", "evaluation_share")


def end_state(folder) -> dict:
    """Return everything that a run leaves, except times and the names of this start of it."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    run = checkpoint["memsuite"]["run"]
    result = json.loads((folder / "result.json").read_text())
    return {
        "weights": checkpoint["state_dict"],
        "optimiser": checkpoint["optimizer_states"],
        "config": checkpoint["memsuite"]["config"],
        "iteration": checkpoint["memsuite"]["iteration"],
        "run": {name: value for name, value in run.items() if name not in ("seconds", "ranks")},
        # Threads and kernels are recorded where a run may go on with others; here the bits themselves are compared.
        "ranks": [{name: value for name, value in rank.items() if name != "machine"} for rank in run["ranks"]],
        "steps_to_target": checkpoint["callbacks"]["RunRecord"]["steps_to_target"],
        "metrics": (folder / "metrics.csv").read_bytes(),
        "result": {name: value for name, value in result.items() if name not in TIMES},
    }


def assert_same(one, other, path: str = "") -> None:
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one:
            assert_same(one[name], other[name], f"{path}/{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}/{i}")
    else:
        assert one == other, path
