"""The gradient's norm is taken over all parameters, or apart over the recurrent ones and the others."""

from types import SimpleNamespace

import pytest
import torch

from memsuite import make_task
from memsuite.rl.actor_critic import make_actor_critic
from memsuite.rl.guard import UpdateGuard
from memsuite.rl.loss import TERMS, LossTerms
from memsuite.rl.update import Update
from memsuite.runs.recipes import usual_gradient_clip


def clipped(by_group):
    """Clip a gradient whose recurrent part is a thousand times the rest; return the norms of the two parts."""
    task = make_task("delayed_cue", "easy")
    model = make_actor_critic(task, "gru", {"hidden_dim": 8}, "none", torch.Generator().manual_seed(0))
    rest, recurrent = (group["params"] for group in model.parameter_groups(1.0))
    loss = sum(one.sum() for one in rest) + 1000 * sum(one.sum() for one in recurrent)
    groups = [rest, recurrent] if by_group else [[*rest, *recurrent]]
    adam = torch.optim.Adam([*rest, *recurrent], lr=0.0, fused=True)
    optimizer = SimpleNamespace(optimizer=adam, zero_grad=adam.zero_grad, step=adam.step)  # as Lightning wraps it
    update = Update(groups, optimizer, lambda total: total.backward(), UpdateGuard(20), 0.5)
    found, skipped = update([(1.0, LossTerms(loss, torch.zeros(len(TERMS))))])
    assert not skipped
    norms = [torch.cat([one.grad.flatten() for one in part]).norm() for part in (rest, recurrent)]
    return [float(norm) for norm in norms], float(found[-1])


def test_one_norm_scales_the_heads_by_the_recurrence():
    (rest, recurrent), before = clipped(by_group=False)
    assert before > 1000
    assert recurrent == pytest.approx(0.5, rel=1e-3)
    assert rest < 0.001


def test_a_norm_of_their_own_leaves_the_heads_their_size():
    (rest, recurrent), before = clipped(by_group=True)
    assert before > 1000
    assert rest == pytest.approx(0.5, rel=1e-3)
    assert recurrent == pytest.approx(0.5, rel=1e-3)


def test_the_longest_waits_have_norms_of_their_own():
    assert [usual_gradient_clip(steps) for steps in (None, 199, 19_999, 99_999)] == ["global"] * 3 + ["by_group"]
