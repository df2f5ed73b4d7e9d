"""Whether what a checkpoint holds besides its weights is of this run: its optimiser, its loops, its episodes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.rl.optimizer import Muon
from memsuite.runs.checkpoints import same_kind
from memsuite.runs.hints import PLAIN, Said, shown
from memsuite.runs.kinds import Wrong
from memsuite.tasks import TASKS, ScriptedTask, Task

LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
OF_A_GPU = 16  # bytes
MOMENTS = {False: ("exp_avg", "exp_avg_sq"), True: ("momentum",)}  # by whether updates are orthogonalised
NUMBERS = ("lr", "eps", "weight_decay", "scale")
COMPARED = (
    "orthogonal",
    "amsgrad",
    "maximize",
    "foreach",
    "capturable",
    "differentiable",
    "fused",
    "decoupled_weight_decay",
)


def check_run(path: Path, checkpoint: Mapping[str, Any], module: Any, trainer: Any) -> None:
    """Refuse a checkpoint whose optimiser, loops or episodes are not those of a run.

    Args:
        path: the file, for the message.
        checkpoint: its contents are of the kinds that a run leaves (:func:`~memsuite.runs.contents.check_contents`).
        module: the run's.
        trainer: Lightning's; the loops in the checkpoint must be like its own.

    Raises:
        UsageError: one line that names the entry, what it is and what it must be.
    """
    before, now = (checkpoint["memsuite"].get("run") or {}).get("precision"), str(trainer.precision)
    if before not in (None, now):  # a checkpoint of an earlier version does not say
        raise UsageError(
            f"trainer.precision is {before} in the checkpoint, not {now}; leave it out to go on, or start a run"
        )
    if checkpoint["memsuite"].get("curriculum") and not any(getattr(one, "grows", False) for one in trainer.callbacks):
        raise UsageError(
            "the checkpoint is of a run with a Curriculum, which is not among trainer.callbacks; "
            "leave them out to go on, or name it again"
        )
    try:
        if "optimizer_states" in checkpoint:
            _check_optimizer(checkpoint["optimizer_states"], module.configure_optimizers())
        _check_loops(checkpoint, trainer)
        saved = checkpoint["memsuite"]
        if ranks := (saved.get("run") or {}).get("ranks"):
            task = module.course.make_task(saved.get("training_args", {})) if module.config.task in TASKS else None
            for index, rank in enumerate(ranks):
                _check_rank(rank, module, task, f"run.ranks[{index}]")
            most = saved["iteration"] * module.num_envs * (module.ppo.rollout_length or module.task.horizon)
            if saved.get("env_steps", 0) > most:
                raise Wrong("env_steps", saved["env_steps"], f"at most {most} after {saved['iteration']} iterations")
            read = sum(len(rank["running_return"]) for rank in ranks)
            if read * module.ppo.draws != module.num_envs:
                raise Wrong("the number of environments", read * module.ppo.draws, str(module.num_envs))
    except Wrong as error:
        raise UsageError(f"{path} does not fit the run: {error}") from error


def check_saved(checkpoint: Mapping[str, Any], module: Any, trainer: Any) -> None:
    """Refuse what Lightning's trainer is about to load: all that a run needs to go on, or the loops of an evaluation.

    Args:
        checkpoint: what the file holds.
        module: the run's.
        trainer: Lightning's.

    Raises:
        UsageError: one line that names the file and the entry.
    """
    path = Path(trainer.ckpt_path or "the checkpoint")
    if trainer.state.fn == "fit":
        check_run(path, checkpoint, module, trainer)
    try:
        _check_loops(checkpoint, trainer)
    except Wrong as error:
        raise UsageError(f"{path} does not fit the run: {error}") from error


def _check_loops(checkpoint: Mapping[str, Any], trainer: Any) -> None:
    for name in LOOPS if "loops" in checkpoint else ():
        _check_alike(checkpoint["loops"].get(name), getattr(trainer, name).state_dict(), f"loops.{name}")


def _check_optimizer(states: Any, fresh: torch.optim.Optimizer) -> None:
    """Hold the state of an optimiser to a fresh one's: moments of another shape would end the process."""
    if len(states) != 1:
        raise Wrong("the number of optimisers", len(states), "1")
    if type(fresh) not in (torch.optim.Adam, Muon):  # a user's own
        return
    state, expected = states[0], fresh.state_dict()["param_groups"]
    groups, moments = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or len(groups) != len(expected) or not isinstance(moments, dict):
        raise Wrong("the optimiser's groups", groups, f"a list of {len(expected)}, with the state of each parameter")
    for index, (group, usual) in enumerate(zip(groups, expected, strict=True)):
        _check_group(group, usual, f"the optimiser's group {index}")
    parameters = [parameter for group in fresh.param_groups for parameter in group["params"]]
    first = ("first",) if isinstance(fresh, Muon) and fresh.decay else ()  # what matrices are drawn back to
    names = {False: MOMENTS[False], True: MOMENTS[True] + first}
    kept = [names[group.get("orthogonal", False)] for group in fresh.param_groups for _ in group["params"]]
    for number, entry in moments.items():
        where = f"the optimiser's state of parameter {number}"
        if type(number) is not int or not 0 <= number < len(parameters) or not isinstance(entry, dict):
            raise Wrong(where, entry, f"a mapping, of one of {len(parameters)} parameters")
        if set(entry) != {"step", *kept[number]}:
            found = Said(", ".join(map(str, entry))[:200] or "nothing")
            raise Wrong(where, found, " and ".join(("step", *kept[number])))
        for name in ("step", *kept[number]):
            _check_moment(entry[name], torch.ones(()) if name == "step" else parameters[number], f"{name} in {where}")


def _check_group(group: Any, usual: Mapping[str, Any], where: str) -> None:
    if not isinstance(group, dict) or not {*NUMBERS, "betas", "params"} <= set(group):
        raise Wrong(where, group, f"a mapping with {', '.join((*NUMBERS, 'betas', 'params'))}")
    if other := [name for name in group if name not in usual]:
        raise Wrong(f"a name in {where}", other[0], f"one of {', '.join(usual)}")
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise Wrong(f"betas in {where}", betas, "two numbers")
    for name, value in [*((name, group[name]) for name in NUMBERS), *(("betas", beta) for beta in betas)]:
        if type(value) not in (int, float) or not 0 <= value < (1 if name == "betas" else math.inf):
            below = " and below 1" if name == "betas" else ""
            raise Wrong(f"{name} in {where}", value, f"a number from 0 on{below}")
    if not isinstance(group["params"], list) or not all(type(number) is int for number in group["params"]):
        raise Wrong(f"params in {where}", group["params"], "a list of whole numbers")
    for name in ("params", *COMPARED):
        if name in group and (type(group[name]) is not type(usual.get(name)) or group[name] != usual.get(name)):
            raise Wrong(f"{name} in {where}", group[name], f"{usual.get(name)}"[:200])


def _check_moment(value: Any, like: Tensor, where: str) -> None:
    if not isinstance(value, Tensor) or value.shape != like.shape or not same_kind(value.dtype, like.dtype):
        raise Wrong(where, value, shown(like))
    if not bool(torch.isfinite(value).all()) or ("_sq" in where.split()[0] and bool((value < 0).any())):
        raise Wrong(where, Said("not finite, or below 0"), "of finite numbers")


def _check_alike(theirs: Any, ours: Any, where: str) -> None:
    """Hold nested mappings to others: the same kinds under the same names; those unknown to either are left alone."""
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping):
            raise Wrong(where, theirs, "a mapping")
        for name, value in ours.items():
            if name in theirs or str(name).endswith("state_dict"):
                _check_alike(theirs.get(name), value, f"{where}.{name}")
    elif isinstance(ours, PLAIN) and ours is not None and type(theirs) is not type(ours):
        raise Wrong(where, theirs, f"{type(ours).__name__}")


def _check_rank(rank: Mapping[str, Any], module: Any, task: Task | None, where: str) -> None:
    """Hold what one process left to the run's controller, and to its task where that is one of memsuite's."""
    count = len(rank["running_return"])
    if not 0 < count <= module.num_envs:
        raise Wrong(f"{where}.running_return", rank["running_return"], f"of 1 to {module.num_envs} environments")
    _check_generators(rank, where)
    check_like(rank.get("state"), module.model.init_state(count), f"{where}.state")
    if task is None:
        return
    saved, scripted = rank["task"], isinstance(task, ScriptedTask)
    state, clock = ("drawn_from", "position") if scripted else ("generator", "clock")
    expected: dict[str, Any] = {"num_envs": 0, "position": 0, "drawn_from": None}
    if not scripted:
        task.reset(count, torch.Generator())
        expected = {**task.state_dict(), "generator": None}
    check_like({**saved, state: None} if state in saved else saved, expected, f"{where}.task")
    _check_generator(saved[state], f"{where}.task.{state}")
    if saved["num_envs"] != count:
        raise Wrong(f"{where}.task.num_envs", saved["num_envs"], str(count))
    if not 0 <= saved[clock] < task.horizon:
        raise Wrong(f"{where}.task.{clock}", saved[clock], f"a step of an episode of {task.horizon}")


def _check_generators(rank: Mapping[str, Any], where: str) -> None:
    for name in ("task", "actions", "permutations"):
        _check_generator(rank["generators"][name], f"{where}.generators.{name}")
    states, words = rank["random"], "the state of a generator"
    _check_generator(states["torch"], f"{where}.random.torch")
    kind, keys, *rest = states["numpy"]
    try:
        random.Random().setstate(states["python"])
        np.random.RandomState().set_state((kind, keys.numpy().astype(np.uint32), *rest))
    except (ValueError, TypeError, OverflowError, IndexError, RuntimeError) as error:
        raise Wrong(f"{where}.random", Said(f"not read ({type(error).__name__})"), words) from error


def _check_generator(state: Any, where: str) -> None:
    """Refuse what is no state of a generator of PyTorch's; one of a GPU's is two numbers."""
    if isinstance(state, Tensor) and state.dtype == torch.uint8 and state.numel() == OF_A_GPU:
        return
    try:
        torch.Generator().set_state(state)
    except (RuntimeError, TypeError) as error:
        raise Wrong(where, state, "the state of a generator") from error


def check_like(theirs: Any, ours: Any, where: str) -> None:
    """Refuse a tree that is not like another: other branches, or tensors of other shapes or kinds."""
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping) or set(theirs) != set(ours):
            raise Wrong(where, theirs, f"a mapping with {', '.join(map(str, ours))}")
        for name, value in ours.items():
            check_like(theirs[name], value, f"{where}.{name}")
    elif isinstance(ours, list | tuple):
        if not isinstance(theirs, list | tuple) or len(theirs) != len(ours):
            raise Wrong(where, theirs, f"a list of {len(ours)}")
        for index, (there, here) in enumerate(zip(theirs, ours, strict=True)):
            check_like(there, here, f"{where}[{index}]")
    elif isinstance(ours, Tensor):
        fits = isinstance(theirs, Tensor) and theirs.shape == ours.shape and same_kind(theirs.dtype, ours.dtype)
        if not fits:
            raise Wrong(where, theirs, shown(ours))
    elif type(theirs) is not type(ours):
        raise Wrong(where, theirs, f"{type(ours).__name__}")
