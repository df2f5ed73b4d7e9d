"""Sequence models of other libraries as controllers, as their own documentation runs them.

``memsuite check`` holds the laws to them (docs/other_libraries.md): ``pip install torchrl x-transformers mambapy``, and

    PYTHONPATH=tests/peers memsuite check other_models.TorchRLGRU other_models.TorchRLLSTM torch.nn.GRU torch.nn.LSTM
        other_models.XTransformerCached other_models.MambaPy other_models.MambaPySteps --json
"""

from __future__ import annotations

import torch
from torch import nn

from memsuite.controllers.base import Controller, ZeroBegin
from memsuite.controllers.wrapped import WholeSequence


class TorchRLGRU(ZeroBegin):
    """torchrl's GRUModule: one step in its usual mode, a sequence in its recurrent mode, with its own resets."""

    def __init__(self, input_dim, hidden_dim=16):
        super().__init__()
        from torchrl.modules import GRUModule

        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.module = GRUModule(
            input_size=input_dim, hidden_size=hidden_dim, in_keys=["x", "h"], out_keys=["y", ("next", "h")]
        )

    def init_state(self, batch_size, device=None):
        like = next(self.parameters())
        return torch.zeros(batch_size, 1, self.feature_dim, device=device or like.device, dtype=like.dtype)

    def _run(self, x, state, is_init, shape, recurrent):
        from tensordict import TensorDict
        from torchrl.modules import set_recurrent_mode

        with set_recurrent_mode(recurrent):
            out = self.module(TensorDict({"x": x, "h": state, "is_init": is_init}, batch_size=shape))
        return out["y"], out["next", "h"]

    def forward_step(self, x_BD, state):
        return self._run(x_BD, state, torch.zeros(len(x_BD), 1, dtype=torch.bool), [len(x_BD)], False)

    def forward_sequence(self, x_TBD, state, is_first_TB):
        state = self.reset_mask(state, is_first_TB[0])
        T, B = is_first_TB.shape
        h = state.unsqueeze(1).expand(-1, T, -1, -1).masked_fill(is_first_TB.t()[:, :, None, None], 0)
        y, after = self._run(x_TBD.transpose(0, 1), h, is_first_TB.t().unsqueeze(-1), [B, T], True)
        return y.transpose(0, 1), after[:, -1]


class TorchRLLSTM(TorchRLGRU):
    """torchrl's LSTMModule, in the same way; its state has two parts."""

    def __init__(self, input_dim, hidden_dim=16):
        nn.Module.__init__(self)
        from torchrl.modules import LSTMModule

        self.input_dim, self.feature_dim = input_dim, hidden_dim
        out = ["y", ("next", "h"), ("next", "c")]
        self.module = LSTMModule(input_size=input_dim, hidden_size=hidden_dim, in_keys=["x", "h", "c"], out_keys=out)

    def init_state(self, batch_size, device=None):
        return tuple(super(TorchRLLSTM, self).init_state(batch_size, device) for _ in range(2))

    def _run(self, x, state, is_init, shape, recurrent):
        from tensordict import TensorDict
        from torchrl.modules import set_recurrent_mode

        h, c = state
        with set_recurrent_mode(recurrent):
            out = self.module(TensorDict({"x": x, "h": h, "c": c, "is_init": is_init}, batch_size=shape))
        return out["y"], (out["next", "h"], out["next", "c"])

    def forward_sequence(self, x_TBD, state, is_first_TB):
        T, B = is_first_TB.shape
        gone = is_first_TB.t()[:, :, None, None]
        parts = tuple(one.unsqueeze(1).expand(-1, T, -1, -1).masked_fill(gone, 0) for one in state)
        y, after = self._run(x_TBD.transpose(0, 1), parts, is_first_TB.t().unsqueeze(-1), [B, T], True)
        return y.transpose(0, 1), tuple(one[:, -1] for one in after)


class XTransformerCached(ZeroBegin, WholeSequence):
    """x-transformers' decoder and its cache of keys and values; a row that begins an episode has its cache zeroed."""

    def __init__(self, input_dim, hidden_dim=16):
        super().__init__()
        from x_transformers import ContinuousTransformerWrapper, Decoder

        self.input_dim, self.feature_dim = input_dim, hidden_dim
        layers = Decoder(dim=hidden_dim, depth=1, heads=2, attn_dim_head=8, rotary_pos_emb=True)
        self.model = ContinuousTransformerWrapper(
            dim_in=input_dim, dim_out=hidden_dim, max_seq_len=512, use_abs_pos_emb=False, attn_layers=layers
        )

    def init_state(self, batch_size, device=None):
        like = next(self.parameters())
        empty = torch.zeros(batch_size, 2, 0, 8, device=device or like.device, dtype=like.dtype)
        return empty, empty

    def read(self, x_TBD, state):
        # A prompt is read at once; with a cache its generation feeds one step at a time.
        parts = x_TBD.split(1) if state[0].shape[2] else [x_TBD]
        features = []
        for part in parts:
            y, state = self._forward(part.transpose(0, 1), state)
            features.append(y.transpose(0, 1))
        return torch.cat(features), state

    def _forward(self, x_BTD, state):
        from x_transformers.x_transformers import Intermediates, LayerIntermediates

        cache, held = None, state[0].shape[2]
        if held:
            kept = [Intermediates(cached_kv=state, layer_type="a")]
            cache = LayerIntermediates(attn_intermediates=kept, cache_length=held)
        y, after = self.model(x_BTD, cache=cache, return_intermediates=True, input_not_include_cache=held > 0)
        return y, tuple(after.attn_intermediates[0].cached_kv)


class MambaPy(ZeroBegin):
    """mambapy's block: `step` for a step, `forward` for a sequence, which begins at zero wherever it is called."""

    def __init__(self, input_dim, hidden_dim=16):
        super().__init__()
        from mambapy.mamba import MambaBlock, MambaConfig

        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.into = nn.Linear(input_dim, hidden_dim)
        self.block = MambaBlock(MambaConfig(d_model=hidden_dim, n_layers=1))

    def init_state(self, batch_size, device=None):
        like, its = self.into.weight, self.block.config
        place = {"device": device or like.device, "dtype": like.dtype}
        return (
            torch.zeros(batch_size, its.d_inner, its.d_state, **place),
            torch.zeros(batch_size, its.d_inner, its.d_conv - 1, **place),
        )

    def forward_step(self, x_BD, state):
        return self.block.step(self.into(x_BD), state)

    def forward_sequence(self, x_TBD, state, is_first_TB):
        return self.block(self.into(x_TBD).transpose(0, 1)).transpose(0, 1), state


class MambaPySteps(MambaPy):
    """The same block by its steps alone, which a sequence then loops over."""

    forward_sequence = Controller.forward_sequence
