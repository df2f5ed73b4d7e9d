"""Small controllers with faults that short sequences, one size of steps or unchanged parameters do not show."""

import torch
from faulty import Sound
from torch import nn

from memsuite.controllers import Controller
from memsuite.controllers.base import map_state


class ChunksApart(Sound):
    """A sequence is read in chunks of 50 steps, and every chunk begins with the state that was given."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        chunks = [
            super(ChunksApart, self).forward_sequence(x, state, first)
            for x, first in zip(x_TBD.split(50), is_first_TB.split(50), strict=True)
        ]
        return torch.cat([features for features, _ in chunks]), chunks[-1][1]


class FewRows(Sound):
    """A step computes the first 16 rows right."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return torch.cat([features[:16], features[16:].abs()]), after

    forward_sequence = Controller.forward_sequence


class CountsInAByte(Sound):
    """The count of steps has 8 bits."""

    def init_state(self, batch_size, device=None):
        state = super().init_state(batch_size, device)
        return {**state, "count": state["count"].to(torch.int8)}


class GradientEndsAfterTwenty(Sound):
    """In both modes the gradient goes back at most twenty steps of an episode."""

    def forward_step(self, x_BD, state):
        cut = (state["count"] % 20 == 19).unsqueeze(1)
        return super().forward_step(x_BD, {**state, "held": torch.where(cut, state["held"].detach(), state["held"])})


class HalfPrecisionInside(Sound):
    """What is written has half precision, in both modes."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return features, {**after, "held": after["held"].bfloat16().to(x_BD.dtype)}


class HalfPrecisionWhereItIsSingle(Sound):
    """A part has half precision in a model of single precision alone, as under autocast."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return features.bfloat16().float() if features.dtype == torch.float32 else features, after


class ParameterDetached(Sound):
    """The weights of what is written get no gradient, in both modes."""

    def forward_step(self, x_BD, state):
        write = x_BD.new_zeros(()) + self.write.weight.detach() @ torch.cat([x_BD, state["last"]], 1).T
        held = self.logit.sigmoid() * state["held"] + write.T + self.write.bias
        features = torch.tanh(held) + self.now(x_BD)
        return features, {**state, "held": held, "last": x_BD}


class LearntBeginning(Sound):
    """The initial state is learnt and begins at zero, and a reset writes zeros."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__(input_dim, hidden_dim)
        self.begin = nn.Parameter(torch.zeros(hidden_dim))

    def init_state(self, batch_size, device=None):
        return {**super().init_state(batch_size, device), "held": self.begin.expand(batch_size, -1)}


class BeginningDetached(LearntBeginning):
    """The learnt initial state gets no gradient."""

    def init_state(self, batch_size, device=None):
        return map_state(torch.detach, super().init_state(batch_size, device))

    def reset_mask(self, state, is_first_B):
        begun = self.init_state(len(is_first_B))

        def reset(leaf, begin):
            return torch.where(is_first_B.view(-1, *[1] * (leaf.dim() - 1)), begin, leaf)

        return map_state(reset, state, begun)


class StaleWeights(Sound):
    """Keeps the decay that it computed first, while nothing is learnt."""

    def forward_step(self, x_BD, state):
        kept = self.__dict__.setdefault(f"kept {self.logit.dtype}", self.logit.detach().sigmoid())
        decay = self.logit.sigmoid() if torch.is_grad_enabled() else kept
        held = decay * state["held"] + self.write(torch.cat([x_BD, state["last"]], 1))
        return torch.tanh(held) + self.now(x_BD), {**state, "held": held, "last": x_BD}


class ForgetsABiasWithoutAutograd(Sound):
    """A fast path without autograd leaves a constant out."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return (features if torch.is_grad_enabled() else features - self.now.bias), after


class WritesIntoInputs(Sound):
    """Clamps the input in place."""

    def forward_step(self, x_BD, state):
        return super().forward_step(x_BD.clamp(-1, 1) if x_BD.requires_grad else x_BD.clamp_(-1, 1), state)


class WritesIntoTheState(Sound):
    """Writes the next state into the one that it is given, while nothing is learnt."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        if not torch.is_grad_enabled():
            after = map_state(lambda leaf, new: leaf.copy_(new), state, after)
        return features, after


class ResetsInPlace(Sound):
    """A reset zeroes the state that it is given."""

    def reset_mask(self, state, is_first_B):
        if torch.is_grad_enabled():
            return super().reset_mask(state, is_first_B)
        return map_state(lambda leaf: leaf.index_fill_(0, is_first_B.nonzero().squeeze(1), 0), state)


class SpreadsNaN(Sound):
    """Adds nothing of all rows to each, which of a NaN is a NaN."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return features + 0 * state["held"].sum(), after


class MiscountsItsState(Sound):
    """Says that its state holds one number."""

    def state_floats(self):
        return 1


# Each faulty class, with a law that it breaks and words that the finding must hold.
PLANTED: dict[type[Controller], tuple[str, str]] = {
    ChunksApart: ("both modes agree", "features at step 50 of row"),
    FewRows: ("rows are apart", "rows"),
    CountsInAByte: ("the state is bounded", "state['count'] goes from 127 to -128"),
    GradientEndsAfterTwenty: ("the gradient is the slope", "is a state detached?"),
    HalfPrecisionInside: ("precision is kept", "is something in half precision?"),
    HalfPrecisionWhereItIsSingle: ("precision is kept", "is something in half precision?"),
    ParameterDetached: ("the gradient is the slope", "write.weight: the features change with it"),
    LearntBeginning: ("resets erase", "reset_mask"),
    BeginningDetached: ("the gradient is the slope", "begin: the features change with it"),
    StaleWeights: ("the same twice", "computes with what it kept of the old ones"),
    ForgetsABiasWithoutAutograd: ("both modes agree", "without autograd is not that with it"),
    WritesIntoInputs: ("arguments are unchanged", "writes into the input"),
    WritesIntoTheState: ("arguments are unchanged", "forward_step writes into the state"),
    ResetsInPlace: ("arguments are unchanged", "reset_mask writes into the state"),
    SpreadsNaN: ("rows are apart", "where the state of row 0 is nan"),
    MiscountsItsState: ("the state is bounded", "state_floats() says 1"),
}
