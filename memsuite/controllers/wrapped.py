"""Modules of other people as controllers: torch's GRU, LSTM and RNN, and whatever reads a whole sequence with a state.

Such a module knows no resets within a sequence. The sequence is therefore split wherever an episode begins, which is
right for every module, and slow where episodes begin often.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from memsuite.controllers.base import Controller, ZeroBegin
from memsuite.types import State


class WholeSequence(Controller):
    """A controller that is given one method, which reads a sequence without resets.

    Define ``input_dim``, ``feature_dim``, :meth:`init_state`, :meth:`reset_mask` and :meth:`read`. For a state that is
    zero at the beginning, inherit from :class:`~memsuite.controllers.base.ZeroBegin` too, which has the reset.
    """

    @abstractmethod
    def read(self, x_TBD: Tensor, state: State) -> tuple[Tensor, State]:
        """Read inputs ``[T, B, input_dim]`` from a state on; return features ``[T, B, feature_dim]`` and the state."""

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a sequence of one step."""
        features, state = self.read(x_BD.unsqueeze(0), state)
        return features[0], state

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Read the parts between the steps at which an episode of any row begins."""
        begins = is_first_TB.any(1).nonzero().flatten().tolist()
        cuts = [0, *(step for step in begins if step), len(x_TBD)]
        parts = []
        for start, end in itertools.pairwise(cuts):
            features, state = self.read(x_TBD[start:end], self.reset_mask(state, is_first_TB[start]))
            parts.append(features)
        return torch.cat(parts), state


class TorchRecurrent(ZeroBegin, WholeSequence):
    """One of torch's recurrent modules, whose state is zero at the beginning of an episode."""

    kind: type[nn.RNNBase]

    def __init__(self, input_dim: int, hidden_dim: int = 128, num_layers: int = 1) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.module: Any = self.kind(input_dim, hidden_dim, num_layers)  # type: ignore[arg-type]

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, num_layers, hidden_dim]``, two of them for an LSTM."""
        like = next(self.parameters())
        shape = batch_size, self.module.num_layers, self.feature_dim
        zeros = [torch.zeros(shape, device=device or like.device, dtype=like.dtype) for _ in range(2)]
        return (zeros[0], zeros[1]) if isinstance(self.module, nn.LSTM) else zeros[0]

    def read(self, x_TBD: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a sequence; torch has the layers in the first dimension of a state, and the batch in the second."""
        turned = pytree.tree_map(lambda part: part.transpose(0, 1).contiguous(), state)
        features, after = self.module(x_TBD, turned)
        return features, pytree.tree_map(lambda part: part.transpose(0, 1), after)


def wrap(module: type[nn.RNNBase]) -> type[Controller]:
    """Return a controller's class for ``torch.nn.GRU``, ``LSTM`` or ``RNN``, or a subclass of these.

    Its arguments are ``hidden_dim`` and ``num_layers``. For any other module, subclass :class:`WholeSequence`.

    Raises:
        TypeError: it is no such class.
    """
    if not (isinstance(module, type) and issubclass(module, nn.RNNBase)):
        raise TypeError(f"{module!r} is not torch.nn.GRU, LSTM or RNN; subclass memsuite.controllers.WholeSequence")
    about = {"kind": module, "__doc__": f"``{module.__module__}.{module.__name__}`` as a controller."}
    return type(f"Wrapped{module.__name__}", (TorchRecurrent,), about)
