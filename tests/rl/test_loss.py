"""The loss against its formula, written out step by step."""

import math

import pytest
import torch

from memsuite.rl.policy.loss import ppo_formula, ppo_loss


def by_hand(logits, actions, old, advantages, clip, coefficient, weighted):
    policy = bonus = 0.0
    for row, action, before, advantage in zip(logits, actions, old, advantages, strict=True):
        log_probs = [float(x - torch.logsumexp(row, 0)) for x in row]
        ratio = math.exp(log_probs[int(action)] - float(before))
        clipped = min(max(ratio, 1 - clip), 1 + clip)
        policy -= min(ratio * float(advantage), clipped * float(advantage))
        entropy = -sum(math.exp(x) * x for x in log_probs)
        bonus += entropy * (abs(float(advantage)) if weighted else 1.0)
    return (policy - coefficient * bonus) / len(logits)


@pytest.mark.parametrize("weighting", ["uniform", "advantages"])
def test_the_loss_is_its_formula(weighting):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 2, 5, generator=generator, dtype=torch.float64)
    actions = torch.randint(5, (6, 2), generator=generator)
    old, advantages = torch.randn(2, 6, 2, generator=generator, dtype=torch.float64)
    old -= 2.0
    settings = {"clip": 0.2, "value_clip": None, "value_coefficient": 0.5, "entropy_coefficient": 0.3}
    zero = torch.zeros_like(old)
    terms = ppo_loss(logits, zero, actions, old, zero, advantages, zero, entropy_weighting=weighting, **settings)
    flat = logits.flatten(0, 1), actions.flatten(), old.flatten(), advantages.flatten()
    assert float(terms.total) == pytest.approx(by_hand(*flat, 0.2, 0.3, weighting == "advantages"), abs=1e-12)


def test_nothing_at_stake_is_no_gradient():
    logits = torch.randn(4, 3, 5, requires_grad=True)
    zero = torch.zeros(4, 3)
    actions = torch.zeros(4, 3, dtype=torch.int64)
    settings = {"clip": 0.2, "value_clip": None, "value_coefficient": 0.5, "entropy_coefficient": 0.3}
    advantages = torch.zeros(4, 3)
    advantages[-1] = 1.0
    terms = ppo_loss(
        logits, zero, actions, zero - 1, zero, advantages, zero, entropy_weighting="advantages", **settings
    )
    terms.total.backward()
    assert (logits.grad[:-1] == 0).all()
    assert (logits.grad[-1] != 0).any()


@pytest.mark.parametrize("weighting", ["uniform", "advantages"])
@pytest.mark.parametrize("value_clip", [None, 0.1])
def test_the_fast_path_is_the_formula_in_values_and_gradients(weighting, value_clip):
    generator = torch.Generator().manual_seed(2)
    logits, values = torch.randn(7, 3, 5, generator=generator).double(), torch.randn(7, 3, generator=generator).double()
    actions = torch.randint(5, (7, 3), generator=generator)
    old, before, advantages, returns = torch.randn(4, 7, 3, generator=generator, dtype=torch.float64)
    settings = {"clip": 0.2, "value_clip": value_clip, "value_coefficient": 0.5, "entropy_coefficient": 0.3}
    found = []
    for loss in (ppo_loss, ppo_formula):
        given = [x.clone().requires_grad_() for x in (logits, values)]
        terms = loss(*given, actions, old - 2, before, advantages, returns, entropy_weighting=weighting, **settings)
        found.append((terms.terms, *torch.autograd.grad(terms.total, given)))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
