"""Policies over several numbers and over real numbers: held to torch.distributions, in rollouts and in updates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import distributions as td

from memsuite.controllers import make_controller
from memsuite.module import MemoryPPO
from memsuite.rl import ActorCritic, Credit
from memsuite.rl.policy.distributions import policy_of
from memsuite.rl.policy.encoder import FEATURES, ImageEncoder
from memsuite.rl.policy.loss import ppo_formula, ppo_loss
from memsuite.tasks.actions import Continuous, Discrete, MultiDiscrete
from memsuite.types import Image

SPACES: dict[str, Any] = {
    "discrete": Discrete(5),
    "several": MultiDiscrete((3, 2, 4)),
    "real": Continuous((-1.0, -math.inf, 0.0), (1.0, math.inf, 0.5)),
}


def reference(space: Any, logits: torch.Tensor) -> Any:
    """Return the distribution of PyTorch's that the logits stand for."""
    if isinstance(space, Discrete):
        return td.Categorical(logits=logits)
    if isinstance(space, Continuous):
        mean, log_std = logits.chunk(2, -1)
        return td.Independent(td.Normal(mean, log_std.exp()), 1)
    return [td.Categorical(logits=part) for part in logits.split(list(space.nvec), -1)]


def asked(space: Any, logits: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return PyTorch's log-probability and entropy."""
    found = reference(space, logits)
    if isinstance(found, list):
        each = list(zip(found, actions.unbind(-1), strict=True))
        return sum(one.log_prob(part) for one, part in each), sum(one.entropy() for one, _ in each)
    return found.log_prob(actions), found.entropy()


@pytest.mark.parametrize("name", SPACES)
def test_log_probability_entropy_and_gradients_are_those_of_torch(name):
    space = SPACES[name]
    policy = policy_of(space)
    logits = torch.randn(4, 6, policy.width, dtype=torch.float64, requires_grad=True)
    actions = policy.choose(logits.detach(), torch.rand(4, 6, *policy.shape))
    assert actions.dtype == space.dtype
    assert actions.shape == (4, 6, *space.shape)
    ours = policy.log_prob(logits, actions), policy.entropy(logits)
    theirs = asked(space, logits, actions.double() if isinstance(space, Continuous) else actions)
    weights = torch.randn(2, 4, 6, dtype=torch.float64)
    for one, other, weight in zip(ours, theirs, weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        (a,) = torch.autograd.grad((one * weight).sum(), logits, retain_graph=True)
        (b,) = torch.autograd.grad((other * weight).sum(), logits, retain_graph=True)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert a.abs().sum() > 0
    torch.testing.assert_close(policy.log_prob_taken(logits, actions), ours[0].detach())


@pytest.mark.parametrize("name", SPACES)
def test_draws_have_the_distribution_and_greedy_actions_are_its_mode(name):
    space = SPACES[name]
    policy = policy_of(space)
    logits = torch.randn(policy.width).expand(40_000, -1)
    drawn = policy.choose(logits, torch.rand(40_000, *policy.shape)).double()
    if isinstance(space, Continuous):
        mean, log_std = logits[0].double().chunk(2)
        assert torch.allclose(drawn.mean(0), mean, atol=0.03 * float(log_std.exp().max()))
        assert torch.allclose(drawn.std(0), log_std.exp(), rtol=0.03)
        assert torch.equal(policy.choose(logits, None)[0], logits[0].chunk(2)[0])
        return
    found = reference(space, logits[0].double())
    parts = found if isinstance(found, list) else [found]
    greedy = policy.choose(logits, None)[0].reshape(-1)
    for part, column, best in zip(parts, drawn.reshape(len(drawn), -1).unbind(1), greedy, strict=True):
        shares = torch.bincount(column.long(), minlength=len(part.probs)) / len(column)
        assert torch.allclose(shares.double(), part.probs, atol=0.015)
        assert int(best) == int(part.probs.argmax())


def test_the_ends_of_the_uniform_numbers_draw_finite_actions():
    drawn = policy_of(SPACES["real"]).choose(torch.zeros(2, 6), torch.tensor([[0.0] * 3, [1 - 2.0**-24] * 3]))
    assert torch.isfinite(drawn).all()
    assert (drawn.abs() > 5).all()


SETTINGS: dict[str, Any] = {
    "clip": 0.2,
    "value_clip": 0.3,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.1,
    "entropy_weighting": "advantages",
}


def test_one_component_has_the_loss_and_the_gradient_of_one_choice():
    several, given = policy_of(MultiDiscrete((4,))), [torch.randn(5, 7, dtype=torch.float64) for _ in range(5)]
    logits = torch.randn(5, 7, 4, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(4, (5, 7))
    values, *rest = given
    found = [
        policy.loss(logits, values, taken, *rest, **SETTINGS)
        for policy, taken in ((several, actions.unsqueeze(-1)), (policy_of(Discrete(4)), actions))
    ]
    torch.testing.assert_close(found[0].terms, found[1].terms)
    a, b = (torch.autograd.grad(one.total, logits)[0] for one in found)
    torch.testing.assert_close(a, b)


def test_the_discrete_policy_keeps_the_fused_loss():
    logits, actions = torch.randn(5, 7, 4), torch.randint(4, (5, 7))
    values, *rest = [torch.randn(5, 7) for _ in range(5)]
    fused = ppo_loss(logits, values, actions, *rest, **SETTINGS)
    assert torch.equal(policy_of(Discrete(4)).loss(logits, values, actions, *rest, **SETTINGS).terms, fused.terms)
    formula = ppo_formula(logits, values, actions, *rest, **SETTINGS)
    torch.testing.assert_close(fused.terms, formula.terms)


def test_the_loss_of_real_actions_is_that_of_torch_distributions():
    space = SPACES["real"]
    policy, logits = policy_of(space), torch.randn(5, 7, 6, dtype=torch.float64, requires_grad=True)
    actions = torch.randn(5, 7, 3)
    values, old, *rest = [torch.randn(5, 7, dtype=torch.float64) for _ in range(5)]
    found = policy.loss(logits, values, actions, old, *rest, **{**SETTINGS, "value_clip": None})
    log_prob, entropy = asked(space, logits, actions.double())
    ratio, advantages = (log_prob - old).exp(), rest[1]
    policy_term = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    total = policy_term + 0.25 * (values - rest[2]).square().mean() - 0.1 * (entropy * advantages.abs()).mean()
    torch.testing.assert_close(found.total, total)
    torch.testing.assert_close(*(torch.autograd.grad(one, logits)[0] for one in (found.total, total)))


@pytest.mark.parametrize("critic", ["memory", "observation", "none"])
def test_the_network_has_a_learnt_deviation_that_starts_at_one(critic):
    controller = make_controller("gru", input_dim=3, hidden_dim=8)
    model = ActorCritic(controller, SPACES["real"], 3, critic).double()
    x, first = torch.randn(4, 2, 3, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.bool)
    logits, _, _ = model(x, model.init_state(2), first)
    assert logits.shape == (4, 2, 6)
    assert torch.equal(logits[..., 3:], torch.zeros(4, 2, 3, dtype=torch.float64))
    model.policy.entropy(logits).sum().backward()
    assert torch.equal(model.log_std.grad, torch.full((3,), 8.0, dtype=torch.float64))
    assert any(model.log_std is one for group in model.parameter_groups(0.1) for one in group["params"])


@pytest.mark.parametrize("bad", ["gradient", "value"])
def test_the_guard_covers_the_deviation(bad):
    """A gradient of the deviation that is not finite leaves every parameter as it was."""
    pytest.importorskip("gymnasium")
    module = MemoryPPO(task="gym:Pendulum-v1", horizon=5, num_envs=4, steps=20, controller_args={"hidden_dim": 4})
    optimizer = module.configure_optimizers()
    before = [parameter.detach().clone() for parameter in module.model.parameters()]
    for parameter in module.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.model.log_std.grad[0] = math.nan if bad == "gradient" else math.inf
    norm = torch.nn.utils.clip_grad_norm_(list(module.model.parameters()), 1.0)

    class Wrapped:
        def __init__(self):
            self.optimizer = optimizer

        def step(self):
            optimizer.step()

    assert float(module.guard.step(Wrapped(), torch.zeros(()), norm)) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, module.model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["several", "real"])
def test_consequences_are_found_for_each_part_of_an_action(name):
    """The last part of an action moves the next observation in one of the two data sets."""
    space = SPACES[name]
    policy = policy_of(space)
    for moves in (False, True):
        credit = Credit(0.9, 0.9, True, policy.levels, 2, math.prod(policy.shape))
        for _ in range(6):
            draws = torch.rand(20, 64, *policy.shape)
            observations = torch.randn(20, 64, 2)
            if moves:
                observations[1:, :, 1] += 2 * (draws[:-1, :, -1] > 0.5)
            zeros = torch.zeros(20, 64)
            no = zeros.bool()
            trajectory: Any = type("T", (), {})()
            vars(trajectory).update(observations=observations, rewards=zeros, terminated=no, truncated=no, draws=draws)
            credit(trajectory)
        assert credit.found() == moves


def image_model(images: tuple[Image, ...], width: int) -> ActorCritic:
    encoder = ImageEncoder(images, width)
    controller = make_controller("gru", input_dim=encoder.width, hidden_dim=8)
    return ActorCritic(controller, 3, width, "memory", encoder).double()


def test_a_sequence_of_images_is_read_as_the_steps_are():
    images = (Image(2, (16, 18, 3), True), Image(2 + 16 * 18 * 3, (1, 17, 16), False))
    width = 2 + images[0].size + images[1].size + 1
    model = image_model(images, width)
    assert model.encoder.width == 3 + 2 * FEATURES
    x, first = torch.rand(5, 3, width, dtype=torch.float64), torch.zeros(5, 3, dtype=torch.bool)
    first[2, 1] = True
    logits, values, _ = model(x, model.init_state(3), first)
    other = model.init_state(3)
    for t in range(5):
        step, value, other = model.step(x[t], other, first[t])
        torch.testing.assert_close(step, logits[t], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(value, values[t], rtol=1e-12, atol=1e-12)
    (logits.square().sum() + values.sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.parameters())


def test_the_encoder_reads_pixels_where_they_are():
    """Channels first and channels last of one picture give the same features, and the rest is passed on."""
    torch.manual_seed(0)
    last = ImageEncoder([Image(1, (16, 20, 3), True)], 1 + 960 + 1)
    first = ImageEncoder([Image(1, (3, 16, 20), False)], 1 + 960 + 1)
    first.load_state_dict(last.state_dict())
    picture, rest = torch.rand(16, 20, 3), torch.tensor([5.0, 7.0])
    rows = [torch.cat([rest[:1], p.flatten(), rest[1:]]) for p in (picture, picture.permute(2, 0, 1))]
    a, b = last(rows[0]), first(rows[1])
    torch.testing.assert_close(a, b)
    assert torch.equal(a[:2], rest)
    assert not torch.allclose(last(rows[0].roll(1))[2:], a[2:])
