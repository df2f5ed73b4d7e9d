"""A user's controller is tried when a run begins: a mistake gives one line that names its place."""

import collections
import copy
import dataclasses

import lightning.pytorch as pl
import pytest
import torch
from test_evaluation import Leaky
from test_lightning import PLAIN, small
from torch import nn

from memsuite.controllers import GRU
from memsuite.errors import UsageError
from memsuite.rl import PPOConfig, begin, collect, stream
from memsuite.rl.actor_critic import make_actor_critic
from memsuite.tasks import make_task

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # Lightning's advice for a Trainer as it comes


@dataclasses.dataclass
class Slots:
    """A state in the form of a dataclass."""

    h: torch.Tensor


class Ordered(Leaky):
    """Its state is an OrderedDict."""

    def init_state(self, batch_size, device=None):
        return collections.OrderedDict(h=super().init_state(batch_size))


class Slotted(Leaky):
    """Its state is a dataclass."""

    def init_state(self, batch_size, device=None):
        return Slots(super().init_state(batch_size))


class Clocked(Leaky):
    """Its state has a float."""

    def init_state(self, batch_size, device=None):
        return super().init_state(batch_size), 0.5


class Scalar(Leaky):
    """Its state has a tensor without a batch."""

    def init_state(self, batch_size, device=None):
        return {"h": super().init_state(batch_size), "t": torch.zeros(())}


class Growing(Leaky):
    """Keeps every input in its state, which grows."""

    def forward_step(self, x, state):
        state = torch.cat([state, self.w(x)], 1)
        return state[:, -self.feature_dim :], state


class Widening(Leaky):
    """Its state changes to 64 bits."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state.float())
        return feature, state.double()


class Forgetful(Leaky):
    """Its reset leaves a tenth of the past."""

    def reset_mask(self, state, is_first):
        return torch.where(is_first[:, None], 0.1 * state, state)


class Thorough(Leaky):
    """Its reset also resets the other environments."""

    def reset_mask(self, state, is_first):
        return torch.zeros_like(state) if is_first.any() else state


class Writer(Leaky):
    """Writes into the state that it is given."""

    def reset_mask(self, state, is_first):
        return state.masked_fill(is_first[:, None], 0) if is_first.any() else state

    def forward_step(self, x, state):
        with torch.no_grad():
            state.mul_(0.9)
        state = state + self.w(x)
        return state, state


class Cut(Leaky):
    """Cuts its gradient."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return feature.detach(), state.detach()


class Infinite(Leaky):
    """Divides by zero."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return feature / 0, state


class SteepAtNothing(Leaky):
    """Has the gradient of a square root at 0."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return feature + (0 * feature).abs().sqrt(), state


class Imaginary(Leaky):
    """Its features are complex."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return torch.complex(feature, feature), state


class Apart(Leaky):
    """Its two modes differ."""

    def forward_sequence(self, x, state, is_first):
        features, state = super().forward_sequence(x, state, is_first)
        return 2 * features.sign(), state


class Mixing(Leaky):
    """Subtracts the mean over the environments."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return feature - feature.mean(0), state


class Bf16(Leaky):
    """Its weights have 16 bits."""

    def __init__(self, input_dim):
        super().__init__(input_dim)
        self.to(torch.bfloat16)


class Widthless(Leaky):
    """Does not define the width of its features."""

    def __init__(self, input_dim):
        super().__init__(input_dim)
        del self.feature_dim


class Raising(Leaky):
    """Raises when it acts."""

    def forward_step(self, x, state):
        raise LookupError("no such row")


class NoisyHeads(Leaky):
    """Draws from torch's generator."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return feature + 0.05 * torch.randn_like(feature), state


class TwoLayers(Leaky):
    """Two layers of PyTorch's GRU with dropout between them, in a state with the batch first."""

    def __init__(self, input_dim):
        super().__init__(input_dim)
        self.rnn = nn.GRU(input_dim, 4, 2, dropout=0.5)

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, 2, 4)

    def forward_step(self, x, state):
        y, state = self.rnn(x[None], state.transpose(0, 1).contiguous())
        return y[0], state.transpose(0, 1).contiguous()

    def reset_mask(self, state, is_first):
        return state.masked_fill(is_first[:, None, None], 0)


WRONG = {
    Ordered: "OrderedDict",
    Slotted: "Slots",
    Clocked: "a state with 0.5",
    Scalar: "batch must be in dimension 0",
    Growing: "memory is bounded",
    Widening: r"float64.*init_state one of.*float32",
    Forgetful: "leaves something of the past",
    Thorough: "changes rows that begin no episode",
    Writer: "writes into the state",
    Cut: "no gradient reaches",
    Infinite: "not finite",
    SteepAtNothing: "a gradient is not finite",
    Imaginary: "real numbers",
    Apart: "policy when it learns is not the one",
    Mixing: "mix environments",
    Bf16: "32 or 64 bits",
    Raising: r"LookupError: no such row \(.*test_controllers.py:\d+\)",
    NoisyHeads: "draw random numbers",
    TwoLayers: "draw random numbers",
}
BY_TRAJECTORY = PPOConfig(draws=1)


def begun(name: str, ppo: PPOConfig = BY_TRAJECTORY) -> pl.LightningModule:
    module = small(controller=f"{__name__}.{name}", controller_args={}, steps=8 * 10, ppo=ppo)
    pl.Trainer(**PLAIN, max_epochs=1).fit(module)
    return module


@pytest.mark.parametrize("cls", WRONG, ids=lambda cls: cls.__name__)
def test_what_is_wrong_is_one_line_that_says_where(cls):
    with pytest.raises(UsageError, match=WRONG[cls]) as told:
        begun(cls.__name__)
    assert "\n" not in str(told.value)
    assert f"controller {__name__}.{cls.__name__} (" in str(told.value)
    assert "test_controllers.py:" in str(told.value)


def test_a_controller_without_a_width_is_told():
    with pytest.raises(UsageError, match="feature_dim"):
        small(controller=f"{__name__}.Widthless", controller_args={})


@pytest.mark.parametrize("name", ["Cut", "Infinite", "Apart", "Growing"])
def test_shared_scripts_are_no_way_around(name):
    with pytest.raises(UsageError, match=f"{__name__}.{name}"):
        begun(name, PPOConfig(draws=2, epochs=1))


def test_randomness_is_welcome_where_the_pass_that_acts_is_the_one_that_learns():
    assert begun("NoisyHeads", PPOConfig(draws=2, epochs=1)).env_steps == 8 * 10


class Dropping(Leaky):
    """Dropout by the function, which takes the mode as an argument."""

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return nn.functional.dropout(feature, 0.5, self.training), state


class Normed(Leaky):
    """Statistics over the batch, and so over the environments of the minibatch."""

    def __init__(self, input_dim, hidden_dim=4):
        super().__init__(input_dim, hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim)

    def forward_step(self, x, state):
        feature, state = super().forward_step(x, state)
        return self.norm(feature), state


@pytest.mark.parametrize("name", ["Leaky", "Dropping", "Normed"])
def test_the_policy_that_is_updated_is_the_one_that_acted(name, caplog):
    task = make_task("delayed_cue", "easy", horizon=10)
    where = "test_evaluation" if name == "Leaky" else __name__
    model = make_actor_critic(task, f"{where}.{name}", {}, "memory", stream(0, "weights")).train()
    nn.init.normal_(model.actor.weight)
    actor = begin(task, model, 6, stream(0, "task"))
    trajectory, _ = collect(task, model, actor, 10, stream(0, "actions"))
    module = small(controller=f"{where}.{name}", controller_args={}, ppo=PPOConfig(draws=1, advantage="gae"))
    columns = torch.tensor([0, 2])
    logits, _, _ = model(trajectory.observations[:, columns], model.init_state(2), trajectory.is_first[:, columns])
    log_probs = logits.log_softmax(-1).gather(-1, trajectory.actions[:, columns, None])[..., 0]
    assert torch.allclose(log_probs, trajectory.log_probs[:, columns], atol=1e-5)
    pl.Trainer(**PLAIN, max_epochs=1).fit(module)
    assert ("in evaluation mode here" in caplog.text) == (name != "Leaky")


def test_the_trial_draws_nothing_of_the_run():
    torch.manual_seed(3)
    begun("Dropping")
    after = torch.rand(3)
    torch.manual_seed(3)
    module = small(controller=f"{__name__}.Dropping", controller_args={}, steps=8 * 10, ppo=BY_TRAJECTORY)
    module.setup = lambda stage: None
    pl.Trainer(**PLAIN, max_epochs=1).fit(module)
    assert torch.equal(after, torch.rand(3))


def test_a_copy_stays_in_its_mode():
    model = make_actor_critic(make_task("delayed_cue", "easy"), f"{__name__}.Dropping", {}, "memory", stream(0, "w"))
    assert not copy.deepcopy(model).train().controller.training
    assert model.training


class PassingOn(GRU):
    """The usual way to extend a class."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class WithOneMore(PassingOn):
    """The same with an additional argument."""

    def __init__(self, input_dim, scale=1.0, **kwargs):
        super().__init__(input_dim, **kwargs)
        self.scale = scale


@pytest.mark.parametrize(("name", "own"), [("PassingOn", {}), ("WithOneMore", {"scale": 2.0})])
def test_a_class_that_passes_its_arguments_on_takes_those_of_its_base(name, own):
    module = small(controller=f"{__name__}.{name}", controller_args={"hidden_dim": 6, **own}, horizon=500, steps=None)
    plain = small(controller="gru", controller_args={"hidden_dim": 6}, horizon=500, steps=None)
    assert module.config.plain()["controller_args"] == {**plain.config.plain()["controller_args"], **own}
    pairs = zip(module.model.parameters(), plain.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)  # initialised for the task's horizon, too
    with pytest.raises(UsageError, match="did you mean: hidden_dim"):
        small(controller=f"{__name__}.{name}", controller_args={"hiden_dim": 6})
