"""Nine small controllers, each with one fault of the kind that other people's recurrent code has had."""

import torch
from torch import nn

from memsuite.controllers import Controller
from memsuite.controllers.base import ZeroBegin, map_state


class Sound(ZeroBegin):
    """A leaky integrator over a short convolution, that counts its steps; every fault is a change of it."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.write, self.now = nn.Linear(2 * input_dim, hidden_dim), nn.Linear(input_dim, hidden_dim)
        self.logit = nn.Parameter(torch.full((hidden_dim,), 2.0))

    def init_state(self, batch_size, device=None):
        like = self.write.weight
        held = torch.zeros(batch_size, self.feature_dim, device=device or like.device, dtype=like.dtype)
        count = torch.zeros(batch_size, dtype=torch.int64, device=held.device)
        return {"held": held, "last": held.new_zeros(batch_size, self.input_dim), "count": count}

    def forward_step(self, x_BD, state):
        held = self.logit.sigmoid() * state["held"] + self.write(torch.cat([x_BD, state["last"]], 1))
        features = torch.tanh(held) / (1 + state["count"].unsqueeze(1)) + self.now(x_BD)
        return features, {"held": held, "last": x_BD, "count": state["count"] + 1}

    def forward_sequence(self, x_TBD, state, is_first_TB):
        features = []
        for x, first in zip(x_TBD.unbind(), is_first_TB.unbind(), strict=True):
            feature, state = self.sequence_step(x, self.sequence_reset(state, first))
            features.append(feature)
        return torch.stack(features), state

    def sequence_step(self, x, state):
        return self.forward_step(x, state)

    def sequence_reset(self, state, first):
        return self.reset_mask(state, first)


class NoResetOfTheConvolution(Sound):
    """The buffer of the convolution lives on within a sequence."""

    def sequence_reset(self, state, first):
        return {**self.reset_mask(state, first), "last": state["last"]}


class PositionsRunOn(Sound):
    """The count of steps goes on over a reset, in both modes."""

    def reset_mask(self, state, is_first_B):
        return {**super().reset_mask(state, is_first_B), "count": state["count"]}


class GrowingCache(Sound):
    """The state holds every step."""

    def init_state(self, batch_size, device=None):
        state = super().init_state(batch_size, device)
        return {**state, "cache": state["held"].unsqueeze(1)}

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return features, {**after, "cache": torch.cat([state["cache"], after["held"].unsqueeze(1)], 1)}


class ResetMultiplies(Sound):
    """A reset multiplies by zero, which keeps a NaN."""

    def reset_mask(self, state, is_first_B):
        def reset(leaf):
            return leaf * (~is_first_B).view(-1, *[1] * (leaf.dim() - 1)).to(leaf.dtype)

        return map_state(reset, state)


class ReadAfterUpdate(Sound):
    """A sequence reads the count of the steps after its update, a step before it."""

    def sequence_step(self, x, state):
        features, after = self.forward_step(x, state)
        held = torch.tanh(after["held"])
        return features - held / (1 + state["count"].unsqueeze(1)) + held / (1 + after["count"].unsqueeze(1)), after


class GradientCut(Sound):
    """A sequence cuts the gradient of the state between steps."""

    def sequence_step(self, x, state):
        features, after = self.forward_step(x, state)
        return features, {**after, "held": after["held"].detach()}


class StateDetached(Sound):
    """Every step, in both modes, begins with a state without its gradient."""

    def forward_step(self, x_BD, state):
        return super().forward_step(x_BD, {**state, "held": state["held"].detach()})


class SinglePrecisionInside(Sound):
    """The recurrence is computed in float32 whatever the model is."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, {**state, "held": state["held"].float().to(state["held"].dtype)})
        return features, {**after, "held": after["held"].float().to(after["held"].dtype)}


class DependsOnTheOrder(Sound):
    """Every row is shifted by the row before it."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return features + 0.1 * features.roll(1, 0), after


# Each faulty class, with a law that it breaks and a word that the finding must name.
FAULTS: dict[type[Controller], tuple[str, str]] = {
    NoResetOfTheConvolution: ("both modes agree", "step 0 of episode"),
    PositionsRunOn: ("resets erase", "step 0 of episode"),
    GrowingCache: ("the state is bounded", "cache"),
    ResetMultiplies: ("resets erase", "a state of inf"),
    ReadAfterUpdate: ("both modes agree", "features at step"),
    GradientCut: ("both modes agree", "gradient of"),
    StateDetached: ("the gradient is the slope", "is a state detached?"),
    SinglePrecisionInside: ("precision is kept", "forward_"),
    DependsOnTheOrder: ("rows are apart", "rows"),
}
