"""Sequence models with two modes that agree: step by step, and a whole sequence with resets inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from memsuite.blame import in_one_line, is_mistake, users_line, words_of
from memsuite.controllers.base import Controller, accepted_arguments, check_arguments
from memsuite.controllers.gated_deltanet import GatedDeltaNet, GatedDeltaNetLayer
from memsuite.controllers.gru import GRU, GRULayer
from memsuite.controllers.linear_attention import LinearAttention, LinearAttentionLayer
from memsuite.controllers.lstm import LSTM, LSTMLayer
from memsuite.controllers.mamba import Mamba, MambaLayer
from memsuite.controllers.mamba2 import Mamba2, Mamba2Layer
from memsuite.controllers.matrices.deltaproduct import GatedDeltaProduct, GatedDeltaProductLayer
from memsuite.controllers.matrices.gdn2 import GDN2, GDN2Layer
from memsuite.controllers.matrices.hgrn2 import HGRN2, HGRN2Layer
from memsuite.controllers.matrices.kda import KDA, KDALayer
from memsuite.controllers.matrices.mamba3 import Mamba3, Mamba3Layer
from memsuite.controllers.matrices.rwkv7 import RWKV7, RWKV7Layer
from memsuite.controllers.matrices.shm import SHM, SHMLayer
from memsuite.controllers.mlstm import MLSTM, MLSTMLayer
from memsuite.controllers.stack import Stack, stacked
from memsuite.controllers.transformer import Transformer, TransformerLayer
from memsuite.controllers.vectors.elman import Elman, ElmanLayer
from memsuite.controllers.vectors.ffm import FFM, FFMLayer
from memsuite.controllers.vectors.lru import LRU, LRULayer
from memsuite.controllers.vectors.mingru import MinGRU, MinGRULayer
from memsuite.controllers.vectors.pseudo_mamba import PseudoMamba, PseudoMambaLayer
from memsuite.controllers.vectors.rtu import RTU, RTULayer
from memsuite.controllers.vectors.s5 import S5, S5Layer
from memsuite.controllers.vectors.slstm import SLSTM, SLSTMLayer
from memsuite.controllers.vectors.trace import Trace, TraceLayer
from memsuite.controllers.windows.fox import FoX, FoXLayer
from memsuite.controllers.windows.gtrxl import GTrXL, GTrXLLayer
from memsuite.controllers.windows.hyena import Hyena, HyenaLayer
from memsuite.controllers.wrapped import WholeSequence, wrap
from memsuite.errors import UsageError, unknown
from memsuite.imports import class_at
from memsuite.reading import plain_number

LAYERS: dict[str, type[Controller]] = {
    "gru": GRULayer,
    "lstm": LSTMLayer,
    "pseudo_mamba": PseudoMambaLayer,
    "mingru": MinGRULayer,
    "lru": LRULayer,
    "mamba": MambaLayer,
    "mamba2": Mamba2Layer,
    "linear_attention": LinearAttentionLayer,
    "gated_deltanet": GatedDeltaNetLayer,
    "mlstm": MLSTMLayer,
    "transformer": TransformerLayer,
    "trace": TraceLayer,
    "elman": ElmanLayer,
    "rtu": RTULayer,
    "ffm": FFMLayer,
    "s5": S5Layer,
    "slstm": SLSTMLayer,
    "shm": SHMLayer,
    "hgrn2": HGRN2Layer,
    "kda": KDALayer,
    "gdn2": GDN2Layer,
    "gated_deltaproduct": GatedDeltaProductLayer,
    "rwkv7": RWKV7Layer,
    "mamba3": Mamba3Layer,
    "gtrxl": GTrXLLayer,
    "fox": FoXLayer,
    "hyena": HyenaLayer,
}
# A model's class is the stack of its layer: ``CONTROLLERS["gru"]`` is ``GRU``.
CONTROLLERS: dict[str, type[Controller]] = {name: stacked(layer) for name, layer in LAYERS.items()}

__all__ = [
    "CONTROLLERS",
    "FFM",
    "GDN2",
    "GRU",
    "HGRN2",
    "KDA",
    "LAYERS",
    "LRU",
    "LSTM",
    "MLSTM",
    "RTU",
    "RWKV7",
    "S5",
    "SHM",
    "SLSTM",
    "Controller",
    "Elman",
    "FoX",
    "GTrXL",
    "GatedDeltaNet",
    "GatedDeltaProduct",
    "Hyena",
    "LinearAttention",
    "Mamba",
    "Mamba2",
    "Mamba3",
    "MinGRU",
    "PseudoMamba",
    "Stack",
    "Trace",
    "Transformer",
    "WholeSequence",
    "controller_class",
    "make_controller",
    "stacked",
    "wrap",
]


def controller_class(name: str) -> type[Controller]:
    """Find a controller by its name (``gru``) or by the path of your own class (``my_module.MyController``).

    ``torch.nn.GRU``, ``LSTM`` and ``RNN`` are wrapped (:func:`~memsuite.controllers.wrapped.wrap`).
    """
    if not isinstance(name, str):
        raise UsageError(f"controller is {name!r}; give its name, or the path of a class as text: 'my_module.MyModel'")
    if name in CONTROLLERS:
        return CONTROLLERS[name]
    if not name.rpartition(".")[0]:
        raise unknown("controller", name, CONTROLLERS)
    if name.startswith("torch.nn."):
        return wrap(class_at(name, nn.RNNBase, "controller"))
    return class_at(name, Controller, "controller")  # type: ignore[type-abstract]


def make_controller(name: str, *, input_dim: int, memory_horizon: int | None = None, **overrides: Any) -> Controller:
    """Build a controller.

    Args:
        name: a built-in name or the path of a class of your own.
        input_dim: width of its input.
        memory_horizon: steps over which the initial weights should retain information; None for the model's default.
            Only classes that take this argument receive it.
        overrides: the class's other arguments, ``hidden_dim`` and so on. ``depth`` and ``mlp_ratio`` are allowed even
            if a class of your own does not take ``depth``: beyond depth 1 the class is then the layer of a
            :class:`~memsuite.controllers.stack.Stack`.

    Raises:
        UsageError: an argument is unknown or out of range, or the weights are not finite.
    """
    cls, input_dim = controller_class(name), plain_number(input_dim)
    memory_horizon = plain_number(memory_horizon)
    overrides = {argument: plain_number(value) for argument, value in overrides.items()}
    if not isinstance(input_dim, int) or input_dim < 1:
        raise UsageError(f"input_dim is {input_dim!r}; it must be a whole number above 0")
    valid = accepted_arguments(cls)
    sizes = [] if "depth" in valid else [size for size in ("depth", "mlp_ratio") if size not in valid]
    for argument in overrides:
        if argument not in [*valid, *sizes]:
            raise unknown(f"argument of {name}", argument, [*valid, *sizes])
    if "memory_horizon" in valid:
        overrides["memory_horizon"] = memory_horizon
    if name in CONTROLLERS:
        check_arguments(name, cls, overrides)
    check_arguments(name, Stack, {size: overrides[size] for size in sizes if size in overrides})
    if sizes and overrides.get("depth", 1) > 1:
        cls = stacked(cls)
    elif sizes:
        overrides = {argument: value for argument, value in overrides.items() if argument not in sizes}
    return _built(name, cls, input_dim, overrides)


def _built(name: str, cls: type[Controller], input_dim: int, arguments: dict[str, Any]) -> Controller:
    """Build a controller; raise a UsageError for an exception of its class and for weights that are not finite."""
    try:
        controller = cls(input_dim=input_dim, **arguments)
        finite = all(one.is_meta or bool(torch.isfinite(one).all()) for one in controller.parameters())
        width = controller.feature_dim
        if not isinstance(width, int) or width < 1 or controller.state_floats() < 0:
            raise TypeError(f"feature_dim is {width!r}; it must be a whole number above 0")
    except BaseException as error:
        if not is_mistake(error):
            raise
        # PyTorch may append the frames of its own code to the message; the first line is enough.
        why = in_one_line(error) if users_line(error) else words_of(error)
        raise UsageError(f"controller {name} does not take {arguments}: {why}") from error
    if not finite:
        raise UsageError(f"controller {name} with {arguments} has initial weights that are not finite")
    return controller
