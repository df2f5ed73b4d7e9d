"""What a checkpoint may hold: names, kinds and sizes of everything in it, looked at before anything of it is used.

Nothing here builds a model: what must fit one is looked at by :mod:`memsuite.rl.saved.restore` and
:mod:`memsuite.rl.saved.fits`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from memsuite.runs.hints import LARGEST, PLAIN, Said
from memsuite.runs.kinds import Wrong, check_settings, mapping

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
MOST = 2_000_000  # values in one checkpoint, besides those in its tensors
DEEPEST = 50  # mappings and lists within each other
OURS = ("state_dict", "memsuite", "optimizer_states", "loops", "lr_schedulers", "epoch", "global_step")
PYTHONS, NUMPYS = 625, 624  # numbers in the states of the two generators
Check = Callable[[Any, str], None]


VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.?(post|dev)\d+)?(\+[\w.]+)?")


def check_contents(checkpoint: Any) -> None:
    """Look at everything in a checkpoint.

    Raises:
        Wrong: a value that cannot be what a run has left there.
    """
    top = mapping(checkpoint, "it")
    for name in OURS:
        walk(top.get(name), name)
    weights, saved = mapping(top.get("state_dict"), "state_dict"), mapping(top.get("memsuite"), "memsuite")
    for name, tensor in weights.items():
        check_weight(tensor, f"the weight {name[:100]}")
    _check_saved(saved)
    for name, checks in CALLBACKS.items():
        if name in (states := mapping(top.get("callbacks") or {}, "callbacks")):
            state = mapping(states[name], f"callbacks.{name}")
            for key, check in checks.items():
                check(state.get(key), f"callbacks.{name}.{key}")
    for key in ("optimizer_states", "lr_schedulers"):
        if key in top:
            each_of(mapping)(top[key], key)
    version = top.get("pytorch-lightning_version")
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise Wrong("pytorch-lightning_version", version, "a version of Lightning")
    for key in ("epoch", "global_step"):
        if key in top:
            whole(top[key], key)
    if "loops" in top:
        mapping(mapping(top["loops"], "loops").get("fit_loop"), "loops.fit_loop")


def walk(content: Any, name: str) -> None:
    """Refuse what is neither a plain value nor a tensor whose numbers are all there, however deep it lies."""
    waiting, count = [(content, name, 0)], 0
    while waiting:
        value, where, depth = waiting.pop()
        count += 1
        if count > MOST or depth > DEEPEST:
            raise Wrong(name, content, f"of at most {MOST:,} values, no more than {DEEPEST} deep")
        if isinstance(value, Mapping):
            waiting += [(each, f"{where}.{str(key)[:100]}", depth + 1) for key, each in value.items()]
        elif isinstance(value, list | tuple | set):
            waiting += [(each, f"{where}[{index}]", depth + 1) for index, each in enumerate(value)]
        elif isinstance(value, Tensor):
            check_tensor(value, where)
        elif type(value) not in (*PLAIN, complex, torch.dtype, torch.device):
            raise Wrong(where, value, "a plain value or a tensor")
        elif isinstance(value, int) and abs(value) >= LARGEST:
            raise Wrong(where, value, "of at most 64 bits")


def check_tensor(value: Tensor, where: str) -> None:
    """Refuse a tensor that is not dense, or has fewer numbers than its shape says."""
    dense = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and not value.is_quantized
    if not dense or value.is_meta or value.is_nested:
        raise Wrong(where, value, "a dense tensor")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise Wrong(where, value, "a tensor whose numbers are all in the file")


def check_weight(value: Any, where: str) -> None:
    """Refuse what is no tensor of numbers; a mask may be infinite."""
    if not isinstance(value, Tensor):
        raise Wrong(where, value, "a tensor")
    if value.dtype in FLOATS and bool(torch.isnan(value).any()):
        raise Wrong(where, Said("NaN in places"), "of numbers")


def whole(value: Any, where: str) -> None:
    """Refuse what is no whole number from 0 on."""
    if type(value) is not int or not 0 <= value < LARGEST:
        raise Wrong(where, value, "a whole number from 0 on")


def number(value: Any, where: str) -> None:
    """Refuse what is no finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Wrong(where, value, "a finite number")


def each_of(check: Callable[[Any, str], Any], length: int | None = None) -> Check:
    """Return the check of a list, of which every element passes another check."""

    def found(value: Any, where: str) -> None:
        if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
            raise Wrong(where, value, "a list" if length is None else f"a list of {length}")
        for index, each in enumerate(value):
            check(each, f"{where}[{index}]")

    return found


def maybe(check: Check) -> Check:
    """Return the check of what may be missing."""
    return lambda value, where: None if value is None else check(value, where)


def tensor_of(dtype: torch.dtype, dimensions: int, length: int | None = None) -> Check:
    """Return the check of a tensor of one kind."""

    def found(value: Any, where: str) -> None:
        fits = isinstance(value, Tensor) and value.dtype == dtype and value.dim() == dimensions
        if not fits or (length is not None and len(value) != length):
            raise Wrong(where, value, f"a tensor of {dimensions} dimensions of {str(dtype).removeprefix('torch.')}")

    return found


def command(value: Any, where: str) -> None:
    """Refuse what is no pair of a command line and the steps that it asked for."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise Wrong(where, value, "a command line and its steps")
    whole(value[1], f"{where}[1]")


SECONDS = each_of(number, 2)
CALLBACKS: dict[str, dict[str, Check]] = {
    "RunRecord": {
        "steps_to_target": maybe(whole),
        "seconds_to_target": maybe(SECONDS),
        "spent": SECONDS,
        "steps_to_90_sampled": maybe(whole),
        "sampled": maybe(each_of(number)),
        "commands": maybe(each_of(command)),
    },
    "StopAtTarget": {"held": whole},
    "Curriculum": {"held": whole},
}
BYTES = tensor_of(torch.uint8, 1)


def plain(content: Any, where: str) -> None:
    """Refuse a setting that holds a tensor, at any depth: no run has one."""
    if isinstance(content, Tensor):
        raise Wrong(where, content, "a plain value")
    items = content.items() if isinstance(content, Mapping) else enumerate(content) if _is_list(content) else ()
    for key, each in items:
        plain(each, f"{where}.{str(key)[:100]}")


def _is_list(content: Any) -> bool:
    return isinstance(content, list | tuple | set)


def _check_saved(saved: dict[str, Any]) -> None:
    plain(saved.get("config"), "config")
    check_settings(mapping(saved.get("config"), "config"))
    whole(saved.get("iteration"), "iteration")
    maybe(whole)(saved.get("schema"), "schema")
    for which, defaults in mapping(saved.get("defaults") or {}, "defaults").items():
        for name, value in mapping(defaults, f"defaults.{which}").items():
            if type(value) not in PLAIN:
                raise Wrong(f"defaults.{which}.{name}", value, "a plain value")
    if not isinstance(saved.get("seal", ""), str):
        raise Wrong("seal", saved["seal"], "text")
    for name, kind in (("env_steps", whole), ("episodes", number)):  # not in older checkpoints
        if name in saved:
            kind(saved[name], name)
    for name, value in mapping(saved.get("training_args", {}), "training_args").items():
        whole(value, f"training_args.{name}")
    if (curriculum := saved.get("curriculum")) is not None:
        used = mapping(curriculum, "curriculum")
        if not isinstance(used.get("argument"), str):
            raise Wrong("curriculum.argument", used.get("argument"), "text")
        each_of(mapping)(used.get("stages"), "curriculum.stages")
    run = mapping(saved.get("run") or {}, "run")
    if "ranks" not in run:  # of an earlier version, or of the weights alone
        return
    if not run["ranks"]:
        raise Wrong("run.ranks", run["ranks"], "the state of at least one process")
    each_of(_check_rank)(run["ranks"], "run.ranks")
    for name in ("total", "in_a_row"):
        whole(mapping(run.get("guard"), "run.guard").get(name), f"run.guard.{name}")
    for name, spent in mapping(run.get("seconds"), "run.seconds").items():
        SECONDS(spent, f"run.seconds.{name}")


def _check_rank(value: Any, where: str) -> None:
    rank = mapping(value, where)
    mapping(rank.get("task"), f"{where}.task")
    returns = rank.get("running_return")
    if not (isinstance(returns, Tensor) and returns.dtype in FLOATS and returns.dim() == 1):
        raise Wrong(f"{where}.running_return", returns, "a tensor of one dimension")
    generators = mapping(rank.get("generators"), f"{where}.generators")
    for name in ("task", "actions", "permutations"):
        BYTES(generators.get(name), f"{where}.generators.{name}")
    if rank.get("machine") is not None:  # not in older checkpoints
        mapping(rank["machine"], f"{where}.machine")
    random, at = mapping(rank.get("random"), f"{where}.random"), f"{where}.random"
    BYTES(random.get("torch"), f"{at}.torch")
    each_of(BYTES)(random.get("cuda"), f"{at}.cuda")
    each_of(lambda *_: None, 3)(random.get("python"), f"{at}.python")
    each_of(whole, PYTHONS)(random["python"][1], f"{at}.python[1]")
    each_of(lambda *_: None, 5)(random.get("numpy"), f"{at}.numpy")
    tensor_of(torch.int64, 1, NUMPYS)(random["numpy"][1], f"{at}.numpy[1]")
