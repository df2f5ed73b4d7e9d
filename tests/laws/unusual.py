"""Correct controllers of unusual kinds, which a check must pass."""

import math

import torch
from faulty import Sound
from torch import nn

from memsuite.controllers import Controller
from memsuite.controllers.base import ZeroBegin, map_state, zero_where


class Stepped(Sound):
    """Reads sequences step by step, as most own controllers do."""

    forward_sequence = Controller.forward_sequence


class KeepsItsActivation(Stepped):
    """Keeps what it computed last, with its gradient, in attributes."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        self.last, self.all = features, {"every": [after["held"]]}
        return features, after


class BuffersAlone(Controller):
    """An echo state network: its weights are buffers, which are not learnt."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.register_buffer("read", 0.3 * torch.randn(input_dim, hidden_dim))
        self.register_buffer("turn", torch.polar(torch.full((hidden_dim,), 0.9), torch.rand(hidden_dim)))

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, self.feature_dim, device=device or self.read.device, dtype=self.turn.dtype)

    def forward_step(self, x_BD, state):
        state = self.turn * state + x_BD @ self.read
        return torch.tanh(state.real), state

    def reset_mask(self, state, is_first_B):
        return state.masked_fill(is_first_B.unsqueeze(1), 0)


class TruthInTheState(Stepped):
    """Its state says whether the episode has begun."""

    def init_state(self, batch_size, device=None):
        state = super().init_state(batch_size, device)
        return {**state, "begun": torch.zeros_like(state["count"], dtype=torch.bool)}

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        features = torch.where(state["begun"].unsqueeze(1), features, 2 * features)
        return features, {**after, "begun": torch.ones_like(state["begun"])}


class MaskInTheState(Stepped):
    """Attends to the last three steps; a mask of minus infinity is where nothing was written yet."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__(input_dim, hidden_dim)
        self.write.requires_grad_(False)  # what it does not use is not learnt
        self.logit.requires_grad_(False)

    def init_state(self, batch_size, device=None):
        held = super().init_state(batch_size, device)["held"]
        window = held.new_zeros(batch_size, 3, self.feature_dim)
        return {"window": window, "mask": torch.full_like(window[..., 0], -math.inf)}

    def reset_mask(self, state, is_first_B):
        begun = self.init_state(len(is_first_B), is_first_B.device)

        def reset(leaf, begin):
            return torch.where(is_first_B.view(-1, *[1] * (leaf.dim() - 1)), begin, leaf)

        return map_state(reset, state, begun)

    def forward_step(self, x_BD, state):
        query = self.now(x_BD)
        window = torch.cat([state["window"][:, 1:], query.unsqueeze(1)], 1)
        mask = torch.cat([state["mask"][:, 1:], torch.zeros_like(state["mask"][:, :1])], 1)
        share = ((window * query.unsqueeze(1)).sum(-1) + mask).softmax(-1)
        return (share.unsqueeze(-1) * window).sum(1), {"window": window, "mask": mask}


class Variances(Stepped):
    """Its state holds a variance, which is above zero, and of which it takes the root."""

    def init_state(self, batch_size, device=None):
        state = super().init_state(batch_size, device)
        return {**state, "variance": torch.zeros_like(state["last"])}

    def forward_step(self, x_BD, state):
        variance = 0.9 * state["variance"] + x_BD.square()
        features, after = super().forward_step(x_BD / (0.1 + variance).sqrt(), state)
        return features, {**after, "variance": variance}


class Covariances(Stepped):
    """Its state holds a covariance, whose Cholesky factor refuses what is none."""

    def init_state(self, batch_size, device=None):
        state = super().init_state(batch_size, device)
        return {**state, "covariance": state["held"].new_zeros(batch_size, 2, 2)}

    def forward_step(self, x_BD, state):
        seen = x_BD[:, :2].unsqueeze(2)
        covariance = 0.9 * state["covariance"] + seen @ seen.mT
        root = torch.linalg.cholesky(covariance + torch.eye(2, dtype=x_BD.dtype))
        features, after = super().forward_step(x_BD, state)
        return features + root[:, 1, :1], {**after, "covariance": covariance}


class KinksAndPlateaus(Stepped):
    """A ReLU, the largest numbers, a rounding and gates that are saturated: plateaus that are meant."""

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        largest = features * (features >= features.topk(4, -1).values[:, -1:])
        return (torch.relu(features) + largest + (4 * features).round()) * torch.sigmoid(40 * features), after


class Quantised(Stepped):
    """Rounds its state and lets the gradient pass, and says so."""

    cuts_gradient = True

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return features, {**after, "held": after["held"] + ((4 * after["held"]).round() / 4 - after["held"]).detach()}


class Chaotic(Stepped):
    """Magnifies every difference, so that long sequences differ by rounding however they are read."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__(input_dim, hidden_dim)
        self.turn = nn.Parameter(4 * torch.randn(hidden_dim, hidden_dim))
        self.write.requires_grad_(False)
        self.logit.requires_grad_(False)

    def step(self, written, state):
        held = torch.tanh(state["held"] @ self.turn + written)
        return held, {**state, "held": held}

    def forward_step(self, x_BD, state):
        return self.step(self.now(x_BD), state)

    def forward_sequence(self, x_TBD, state, is_first_TB):
        features = []
        written = (x_TBD.unsqueeze(-2) * self.now.weight).sum(-1) + self.now.bias  # sums in another order
        for one, first in zip(written, is_first_TB, strict=True):
            feature, state = self.step(one, self.reset_mask(state, first))
            features.append(feature)
        return torch.stack(features), state


class Memoryless(Controller):
    """Its state is empty."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__()
        self.input_dim, self.feature_dim, self.now = input_dim, hidden_dim, nn.Linear(input_dim, hidden_dim)

    def init_state(self, batch_size, device=None):
        return ()

    def forward_step(self, x_BD, state):
        return torch.tanh(self.now(x_BD)), state

    def reset_mask(self, state, is_first_B):
        return state


class MeanOfInputs(ZeroBegin):
    """Has neither parameters nor buffers, of which a precision could be taken, and counts in whole numbers."""

    def __init__(self, input_dim):
        super().__init__()
        self.input_dim = self.feature_dim = input_dim

    def init_state(self, batch_size, device=None):
        seen = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return {"sum": torch.zeros(batch_size, self.input_dim, device=device), "seen": seen}

    def forward_step(self, x_BD, state):
        state = {"sum": state["sum"] + x_BD, "seen": state["seen"] + 1}
        return state["sum"] / state["seen"].unsqueeze(1), state


class Nested(Stepped):
    """Its state is a tuple of lists and dicts, with a count of 32 bits, a truth value and a ring of 200 steps."""

    def init_state(self, batch_size, device=None):
        state = super().init_state(batch_size, device)
        ring = state["held"].new_zeros(batch_size, 200, self.feature_dim)
        begun = torch.zeros(batch_size, dtype=torch.bool, device=ring.device)
        return state, [ring, {"at": state["count"].to(torch.int32), "high": begun}]

    def forward_step(self, x_BD, state):
        inner, (ring, counts) = state
        features, after = super().forward_step(x_BD, inner)
        here = (torch.arange(200) == (counts["at"] % 200).unsqueeze(1)).unsqueeze(2)
        oldest = (ring * here.roll(-1, 1)).sum(1)
        ring = torch.where(here, torch.where(counts["high"].view(-1, 1, 1), 1, 2) * features.unsqueeze(1), ring)
        return features + oldest, (after, [ring, {"at": counts["at"] + 1, "high": x_BD[:, 0] > 0}])


class Rectified(Stepped):
    """Many kinks in a long sequence, a branch that begins at zero, and layers that are tied and frozen."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__(input_dim, hidden_dim)
        self.share, self.branch = nn.Parameter(torch.zeros(())), nn.Linear(hidden_dim, hidden_dim)
        self.same = self.branch
        self.now.requires_grad_(False)

    def forward_step(self, x_BD, state):
        features, after = super().forward_step(x_BD, state)
        return features.relu() + self.share * self.branch(self.same(features)).relu(), {
            **after,
            "held": after["held"].relu(),
        }


class PackedAttention(Controller):
    """Attends to the last ten steps of a sequence at once; a mask tells which of them are of the same episode."""

    window = 9  # steps that are kept

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.query, self.key, self.value = (nn.Linear(input_dim, hidden_dim) for _ in range(3))

    def init_state(self, batch_size, device=None):
        held = torch.zeros(batch_size, self.window, self.feature_dim, dtype=self.query.weight.dtype, device=device)
        return {"keys": held, "values": held, "there": torch.zeros_like(held[..., 0], dtype=torch.bool)}

    def reset_mask(self, state, is_first_B):
        return zero_where(state, is_first_B)

    def forward_step(self, x_BD, state):
        features, state = self.forward_sequence(x_BD.unsqueeze(0), state, torch.zeros(1, len(x_BD), dtype=torch.bool))
        return features[0], state

    def forward_sequence(self, x_TBD, state, is_first_TB):
        kept, x, first = self.window, x_TBD.transpose(0, 1), is_first_TB.T
        episode = nn.functional.pad(first.long().cumsum(1), (kept, 0))
        there = torch.cat([state["there"], torch.ones_like(first)], 1)
        keys, values = (
            torch.cat([state[name], read(x)], 1) for name, read in (("keys", self.key), ("values", self.value))
        )
        # What is of another episode is cleared, because a weight of zero times NaN is NaN.
        ages = torch.arange(kept, kept + x.shape[1]).unsqueeze(1) - torch.arange(kept + x.shape[1])
        seen = (ages >= 0) & (ages <= kept) & (episode[:, kept:, None] == episode[:, None]) & there.unsqueeze(1)
        scores = (self.query(x).unsqueeze(2) * keys.unsqueeze(1)).sum(-1).masked_fill(~seen, -math.inf)
        read = torch.where(seen.unsqueeze(-1), scores.softmax(-1).unsqueeze(-1) * values.unsqueeze(1), 0).sum(2)
        last = there & (episode == episode[:, -1:])
        held = {name: one.masked_fill(~last.unsqueeze(-1), 0) for name, one in (("keys", keys), ("values", values))}
        return read.transpose(0, 1), {name: one[:, -kept:] for name, one in {**held, "there": last}.items()}


UNUSUAL: tuple[type[Controller], ...] = (
    KeepsItsActivation,
    BuffersAlone,
    TruthInTheState,
    MaskInTheState,
    Variances,
    Covariances,
    KinksAndPlateaus,
    Quantised,
    Chaotic,
    Memoryless,
    MeanOfInputs,
    Nested,
    Rectified,
    PackedAttention,
)
