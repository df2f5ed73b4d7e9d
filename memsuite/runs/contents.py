"""What a checkpoint may hold: names, kinds and sizes of everything in it, looked at before anything of it is used.

Nothing here builds a model: what must fit one is looked at by :mod:`memsuite.rl.restore`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from memsuite.reading import positive
from memsuite.runs.config import RunConfig
from memsuite.runs.ppo import PPOConfig

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
PLAIN = (NoneType, bool, int, float, str)
MOST = 2_000_000  # values in one checkpoint, besides those in its tensors
DEEPEST = 50  # mappings and lists within each other
LARGEST = 2**63
OURS = ("state_dict", "memsuite", "optimizer_states", "loops", "lr_schedulers", "epoch", "global_step")
PYTHONS, NUMPYS = 625, 624  # numbers in the states of the two generators
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "nothing"}
Check = Callable[[Any, str], None]


VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.?(post|dev)\d+)?(\+[\w.]+)?")


class Said(str):
    """Words that say what a value is."""


class Wrong(ValueError):
    """What is wrong in a checkpoint: the name of the entry, what it is, and what it must be."""

    def __init__(self, where: str, value: Any, wanted: str) -> None:
        super().__init__(f"{where} is {shown(value)}; it must be {wanted}")


def shown(value: Any) -> str:
    """Say briefly what a value is."""
    if isinstance(value, Tensor):
        kind = f"{value.dtype}".removeprefix("torch.")
        place = "" if value.layout == torch.strided else f" of the layout {value.layout}"
        return f"a tensor {list(value.shape)} of {kind}{place}{' without numbers' if value.is_meta else ''}"
    if isinstance(value, Said):
        return value
    if isinstance(value, str):
        return f"the text {value[:40]!r}{'...' if len(value) > 40 else ''}"
    if isinstance(value, PLAIN):
        text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST else "a whole number of many digits"
        return text if value is not None else "missing"
    return f"a {type(value).__name__}"


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
    """Refuse what is no tensor of finite numbers."""
    if not isinstance(value, Tensor):
        raise Wrong(where, value, "a tensor")
    if value.dtype in FLOATS and not bool(torch.isfinite(value).all()):
        raise Wrong(where, Said("not finite"), "of finite numbers")


def whole(value: Any, where: str) -> None:
    """Refuse what is no whole number from 0 on."""
    if type(value) is not int or not 0 <= value < LARGEST:
        raise Wrong(where, value, "a whole number from 0 on")


def number(value: Any, where: str) -> None:
    """Refuse what is no finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Wrong(where, value, "a finite number")


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a mapping; refuse anything else, and keys that are no text."""
    if not isinstance(value, dict):
        raise Wrong(where, value, "a mapping")
    if others := [key for key in value if not isinstance(key, str)]:
        raise Wrong(f"a name in {where}", others[0], "text")
    return value


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


SECONDS = each_of(number, 2)
CALLBACKS: dict[str, dict[str, Check]] = {
    "RunRecord": {
        "steps_to_target": maybe(whole),
        "seconds_to_target": maybe(SECONDS),
        "spent": SECONDS,
        "steps_to_90_sampled": maybe(whole),
        "sampled": maybe(each_of(number)),
    },
    "StopAtTarget": {"held": whole},
    "Curriculum": {"held": whole},
}
BYTES = tensor_of(torch.uint8, 1)


def _check_saved(saved: dict[str, Any]) -> None:
    check_settings(mapping(saved.get("config"), "config"))
    whole(saved.get("iteration"), "iteration")
    maybe(whole)(saved.get("schema"), "schema")
    maybe(whole)(saved.get("env_steps"), "env_steps")
    maybe(number)(saved.get("episodes"), "episodes")
    for name, value in mapping(saved.get("training_args") or {}, "training_args").items():
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
    random, at = mapping(rank.get("random"), f"{where}.random"), f"{where}.random"
    BYTES(random.get("torch"), f"{at}.torch")
    each_of(BYTES)(random.get("cuda"), f"{at}.cuda")
    each_of(lambda *_: None, 3)(random.get("python"), f"{at}.python")
    each_of(whole, PYTHONS)(random["python"][1], f"{at}.python[1]")
    each_of(lambda *_: None, 5)(random.get("numpy"), f"{at}.numpy")
    tensor_of(torch.int64, 1, NUMPYS)(random["numpy"][1], f"{at}.numpy[1]")


def check_settings(config: dict[str, Any]) -> None:
    """Refuse a setting of a kind that no run can have; those of another version are not looked at here."""
    for cls, values, above in (
        (RunConfig, {name: value for name, value in config.items() if name != "ppo"}, ""),
        (PPOConfig, mapping(config.get("ppo"), "config.ppo"), "ppo."),
    ):
        for name, hint in _hints(cls).items():
            if name in values and not _fits(values[name], hint):
                raise Wrong(f"config.{above}{name}", values[name], _wanted(hint))


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {one.name: hints[one.name] for one in fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if hint is positive:
        return type(value) is int and value > 0
    return type(value) in ((int, float) if hint is float else (hint,))


def _wanted(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_wanted(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return KINDS.get(hint, "a whole number above 0" if hint is positive else "a mapping")
