"""Small controllers whose faults show only in long sequences, in wide batches, in zeros, or outside of the state."""

import random

import torch
from faulty import Sound
from torch import nn
from unusual import BuffersAlone

from memsuite.controllers import Controller
from memsuite.controllers.base import ZeroBegin, zero_where


class Leaky(ZeroBegin):
    """A leaky integrator, read in chunks; every fault is a change of it."""

    size = 64

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.write, self.now = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
        self.logit = nn.Parameter(torch.linspace(0, 4, hidden_dim))

    def init_state(self, batch_size, device=None):
        like = self.write.weight
        return torch.zeros(batch_size, self.feature_dim, device=device or like.device, dtype=like.dtype)

    def forward_step(self, x_BD, state):
        held = self.logit.sigmoid() * state + self.write(x_BD)
        return self.now(torch.tanh(held)), held

    def forward_sequence(self, x_TBD, state, is_first_TB):
        features = []
        for at, (x, first) in enumerate(zip(x_TBD.split(self.size), is_first_TB.split(self.size), strict=True)):
            feature, state = self.chunk(x, state, first, at)
            features.append(feature)
        return torch.cat(features), state

    def chunk(self, x, state, first, at):
        return super().forward_sequence(x, state, first)


class DetachedBetweenChunks(Leaky):
    """The gradient ends where chunks of 256 steps meet."""

    size = 256

    def chunk(self, x, state, first, at):
        return super().chunk(x, state.detach() if at else state, first, at)


class DetachedIfLong(Leaky):
    """A long sequence gives no gradient to the state that it is given."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        return super().forward_sequence(x_TBD, state.detach() if len(x_TBD) > 64 else state, is_first_TB)


class DecayDetachedInLaterChunks(Leaky):
    """The decay learns of the first chunk alone."""

    def chunk(self, x, state, first, at):
        features, decay = [], self.logit.sigmoid().detach() if at else self.logit.sigmoid()
        for one, begins in zip(self.write(x), first, strict=True):
            state = decay * zero_where(state, begins) + one
            features.append(self.now(torch.tanh(state)))
        return torch.stack(features), state


class ForgetsResetsBetweenChunks(Leaky):
    """An episode that begins where a chunk does goes on from the one before."""

    def chunk(self, x, state, first, at):
        rows = first.clone()
        rows[0] &= at == 0
        return super().chunk(x, state, rows, at)


class WrongStateOfWholeChunks(Leaky):
    """The state after whole chunks of 16 steps is that of the step before."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        features, after = super().forward_sequence(x_TBD, state, is_first_TB)
        if len(x_TBD) % 16 == 0:
            _, after = super().forward_sequence(x_TBD[:-1], state, is_first_TB[:-1])
        return features, after


class FastWithoutResets(Leaky):
    """Where no episode begins, chunks pass on a state that is rounded."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        self.rounds = not is_first_TB.any()
        return super().forward_sequence(x_TBD, state, is_first_TB)

    def chunk(self, x, state, first, at):
        return super().chunk(x, state.round() if at and self.rounds else state, first, at)


class ProductsVanish(Leaky):
    """A scan divides by the products of decays, which are zero in single precision after 150 steps."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        if is_first_TB.any():
            return super().forward_sequence(x_TBD, state, is_first_TB)
        products = self.logit.sigmoid().expand(len(x_TBD), 1, -1).cumprod(0)
        held = products * (state + (self.write(x_TBD) / products).cumsum(0))
        return self.now(torch.tanh(held)), held[-1]


class AnotherKernelToLearn(Leaky):
    """With autograd a long sequence is computed otherwise."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        features, after = super().forward_sequence(x_TBD, state, is_first_TB)
        return (features + 1e-3 if torch.is_grad_enabled() and len(x_TBD) > 64 else features), after


class MultipliesWithin(Leaky):
    """A reset within a sequence multiplies by zero, which keeps a NaN; the first one does not."""

    def chunk(self, x, state, first, at):
        features, state = [], zero_where(state, first[0])
        for step, (one, begins) in enumerate(zip(x, first, strict=True)):
            feature, state = self.forward_step(one, state * (~begins).unsqueeze(1) if step else state)
            features.append(feature)
        return torch.stack(features), state


class ComplexMultiplies(BuffersAlone):
    """A reset of a complex state multiplies by zero."""

    def reset_mask(self, state, is_first_B):
        return state * (~is_first_B).unsqueeze(1)


class RingTooShort(Sound):
    """A sequence knows no more than 256 positions."""

    def sequence_step(self, x, state):
        features, after = self.forward_step(x, {**state, "count": state["count"].clamp(max=255)})
        return features, {**after, "count": state["count"] + 1}


class Directions(Sound):
    """Reads the direction of the input; zeros have none."""

    def forward_step(self, x_BD, state):
        return super().forward_step(x_BD / x_BD.norm(dim=1, keepdim=True), state)


class RowsOfBlocks(Leaky):
    """Computes the first 64 rows right."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return torch.cat([features[:64], features[64:].abs()]), after


class Views(Leaky):
    """Takes it for granted that inputs are contiguous."""

    def forward_sequence(self, x_TBD, state, is_first_TB):
        return super().forward_sequence(x_TBD.view(-1, x_TBD.shape[2]).view(x_TBD.shape), state, is_first_TB)


class CountTurnsReal(Sound):
    """A reset makes real numbers of the count."""

    def reset_mask(self, state, is_first_B):
        state = super().reset_mask(state, is_first_B)
        return {**state, "count": torch.where(is_first_B, 0.0, state["count"].to(state["held"].dtype))}


class SeedsPyTorch(Leaky):
    """Draws the same noise at every step, by a seed."""

    def forward_step(self, x_BD, state):
        torch.manual_seed(0)
        features, after = super().forward_step(x_BD, state)
        return features + torch.randn(self.feature_dim).to(x_BD.dtype), after


class SeedsPython(Leaky):
    """Draws the same number at every step, by a seed of Python's generator."""

    def forward_step(self, x_BD, state):
        random.seed(0)
        features, after = super().forward_step(x_BD, state)
        return features * (1 + random.random()), after


class SetsTheDefault(Leaky):
    """Makes double precision the default of the process."""

    def forward_step(self, x_BD, state):
        torch.set_default_dtype(torch.float64)
        return super().forward_step(x_BD, state)


class KeepsAHistory(Leaky):
    """Appends every state to a list."""

    def forward_step(self, x_BD, state):
        self.__dict__.setdefault("history", []).append(state.detach())
        return super().forward_step(x_BD, state)


class ScaledByTheFirstInputs(Leaky):
    """Divides by the size of the first inputs that it has ever read."""

    def forward_step(self, x_BD, state):
        self.scale = getattr(self, "scale", x_BD.detach().abs().mean())
        return super().forward_step(x_BD / self.scale.to(x_BD.dtype), state)


class ForksInAnotherOrder(Leaky):
    """A fork mixes up which rows its draws belong to."""

    def fork(self, state, draws, steps):
        return state.repeat(draws, 1)


CHUNKS = "as between chunks?"
# Each faulty class, with a law that it breaks and words that the finding must hold.
HIDDEN: dict[type[Controller], tuple[str, str]] = {
    DetachedBetweenChunks: ("the gradient is the slope", CHUNKS),
    DetachedIfLong: ("the gradient is the slope", CHUNKS),
    DecayDetachedInLaterChunks: ("the gradient is the slope", "steps change with logit by"),
    ForgetsResetsBetweenChunks: ("both modes agree", "features at step 64 of row 1"),
    WrongStateOfWholeChunks: ("cuts are carried", "cut at step 256"),
    FastWithoutResets: ("cuts are carried", "cut at step 100"),
    ProductsVanish: ("precision is kept", "does something overflow or vanish?"),
    AnotherKernelToLearn: ("the gradient is the slope", "with autograd is not that without it"),
    MultipliesWithin: ("resets erase", "episodes that begin within it"),
    ComplexMultiplies: ("resets erase", "a state of inf"),
    RingTooShort: ("both modes agree", "features at step 256 of row 0"),
    Directions: ("both modes agree", "where the inputs are zeros and symbols"),
    RowsOfBlocks: ("rows are apart", "rows"),
    Views: ("rows are apart", "view size is not compatible"),
    CountTurnsReal: ("the state is bounded", "state['count'] is int64 at first and float32"),
    SeedsPyTorch: ("the same twice", "seeds PyTorch's generator"),
    SeedsPython: ("the same twice", "seeds Python's generator"),
    SetsTheDefault: ("the same twice", "default kind of number"),
    KeepsAHistory: ("the state is bounded", "keeps more in history after every call"),
    ScaledByTheFirstInputs: ("the same twice", "what it kept of the old ones"),
    ForksInAnotherOrder: ("both modes agree", "after fork"),
}
