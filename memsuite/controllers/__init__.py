"""Sequence models with two modes that agree: step by step, and a whole sequence with resets inside."""

from __future__ import annotations

from typing import Any

import torch

from memsuite.controllers.base import Controller, accepted_arguments, check_arguments
from memsuite.controllers.gated_deltanet import GatedDeltaNet
from memsuite.controllers.gru import GRU
from memsuite.controllers.linear_attention import LinearAttention
from memsuite.controllers.lru import LRU
from memsuite.controllers.lstm import LSTM
from memsuite.controllers.mamba import Mamba
from memsuite.controllers.mamba2 import Mamba2
from memsuite.controllers.mingru import MinGRU
from memsuite.controllers.mlstm import MLSTM
from memsuite.controllers.pseudo_mamba import PseudoMamba
from memsuite.controllers.transformer import Transformer
from memsuite.errors import UsageError, unknown
from memsuite.imports import class_at

CONTROLLERS: dict[str, type[Controller]] = {
    "gru": GRU,
    "lstm": LSTM,
    "pseudo_mamba": PseudoMamba,
    "mingru": MinGRU,
    "lru": LRU,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "linear_attention": LinearAttention,
    "gated_deltanet": GatedDeltaNet,
    "mlstm": MLSTM,
    "transformer": Transformer,
}

__all__ = [
    "CONTROLLERS",
    "GRU",
    "LRU",
    "LSTM",
    "MLSTM",
    "Controller",
    "GatedDeltaNet",
    "LinearAttention",
    "Mamba",
    "Mamba2",
    "MinGRU",
    "PseudoMamba",
    "Transformer",
    "controller_class",
    "make_controller",
]


def controller_class(name: str) -> type[Controller]:
    """Find a controller by its name (``gru``) or by the path of your own class (``my_module.MyController``)."""
    if name in CONTROLLERS:
        return CONTROLLERS[name]
    if not name.rpartition(".")[0]:
        raise unknown("controller", name, CONTROLLERS)
    return class_at(name, Controller, "controller")  # type: ignore[type-abstract]


def make_controller(name: str, *, input_dim: int, memory_horizon: int | None = None, **overrides: Any) -> Controller:
    """Build a controller.

    Args:
        name: a built-in name or the path of a class of your own.
        input_dim: width of its input.
        memory_horizon: steps the initialisation should hold something for; None for the model's default. Given to the
            classes that take it.
        overrides: the class's other arguments, ``hidden_dim`` and so on.
    """
    cls = controller_class(name)
    valid = accepted_arguments(cls)
    for argument in overrides:
        if argument not in valid:
            raise unknown(f"argument of {name}", argument, valid)
    if "memory_horizon" in valid:
        overrides["memory_horizon"] = memory_horizon
    if name in CONTROLLERS:
        check_arguments(name, cls, overrides)
    try:
        controller = cls(input_dim=input_dim, **overrides)
        finite = all(bool(torch.isfinite(parameter).all()) for parameter in controller.parameters())
    except UsageError:
        raise
    except (TypeError, RuntimeError, ArithmeticError, ValueError, MemoryError) as error:
        why = str(error).partition("\n")[0]  # PyTorch may add the frames of its own code
        raise UsageError(f"controller {name} does not take {overrides}: {why}") from error
    if not finite:
        raise UsageError(f"controller {name} with {overrides} begins with weights that are not finite")
    return controller
