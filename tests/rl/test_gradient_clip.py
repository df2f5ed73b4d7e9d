"""The gradient's norm is taken over all parameters, or apart over recurrent ones, the controller's others and heads."""

from types import SimpleNamespace

import pytest
import torch

from memsuite import make_controller, make_task
from memsuite.rl.actor_critic import ActorCritic, make_actor_critic
from memsuite.rl.guard import UpdateGuard
from memsuite.rl.policy.encoder import FEATURES, ImageEncoder
from memsuite.rl.policy.loss import TERMS, LossTerms
from memsuite.rl.update import Update
from memsuite.runs.recipes import usual_gradient_clip
from memsuite.tasks.actions import Continuous
from memsuite.types import Image


def clipped(by_group):
    """Clip a gradient whose recurrent part is a thousand times the heads'; return the norms of the parts."""
    task = make_task("delayed_cue", "easy")
    model = make_actor_critic(task, "lru", {"hidden_dim": 8}, "none", torch.Generator().manual_seed(0))
    parts = list(model.parameters_by_part().values())
    recurrent, others, heads = parts
    loss = sum(weight * one.sum() for part, weight in zip(parts, (1000, 10, 1), strict=True) for one in part)
    groups = parts if by_group else [[*recurrent, *others, *heads]]
    adam = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)
    optimizer = SimpleNamespace(optimizer=adam, zero_grad=adam.zero_grad, step=adam.step)  # as Lightning wraps it
    update = Update(groups, optimizer, lambda total: total.backward(), UpdateGuard(20), 0.5)
    found, skipped = update([(1.0, LossTerms(loss, torch.zeros(len(TERMS))))])
    assert not skipped
    norms = [torch.cat([one.grad.flatten() for one in part]).norm() for part in parts]
    return [float(norm) for norm in norms], float(found[-1])


def test_one_norm_scales_the_heads_by_the_recurrence():
    (recurrent, others, heads), before = clipped(by_group=False)
    assert before > 1000
    assert recurrent == pytest.approx(0.5, rel=1e-2)
    assert others < 0.05
    assert heads < 0.01


def test_a_norm_of_their_own_leaves_the_heads_their_size():
    (recurrent, others, heads), before = clipped(by_group=True)
    assert before > 1000
    assert [recurrent, others, heads] == pytest.approx([0.5] * 3, rel=1e-3)


def test_the_longest_waits_have_norms_of_their_own():
    assert [usual_gradient_clip(steps) for steps in (None, 199, 19_999, 99_999)] == ["global"] * 3 + ["by_group"]


def test_every_parameter_is_in_one_part_and_an_encoder_is_none_of_the_heads():
    controller = make_controller("lru", input_dim=2 + FEATURES, hidden_dim=8)
    encoder = ImageEncoder([Image(0, (16, 16, 3), channels_last=True)], 2 + 16 * 16 * 3)
    model = ActorCritic(controller, Continuous((-1.0,), (1.0,)), encoder=encoder)
    parts = model.parameters_by_part()
    assert list(parts) == ["recurrent", "controller", "encoder", "heads"]
    found = [id(one) for part in parts.values() for one in part]
    assert sorted(found) == sorted(id(one) for one in model.parameters())
    assert {id(one) for one in parts["encoder"]} == {id(one) for one in encoder.parameters()}
    assert any(one is model.log_std for one in parts["heads"])
