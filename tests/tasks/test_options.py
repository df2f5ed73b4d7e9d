"""The options that are off by default: jitter, rewriting, noise."""

from __future__ import annotations

import pytest
import torch

from memsuite.tasks import make_task

JITTERED = ["delayed_cue", "copy_memory", "assoc_recall", "permuted_copy", "pattern_binding"]


def script(name, **options):
    return make_task(name, "easy", **options).script(400, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", JITTERED)
def test_jitter_moves_the_question_and_nothing_else(name):
    plain, jittered = script(name), script(name, jitter=5)
    shift = plain.scored.int().argmax(0) - jittered.scored.int().argmax(0)
    assert shift.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(plain.scored.sum(0), jittered.scored.sum(0))
    for env in range(20):
        one, other = plain.scored[:, env], jittered.scored[:, env]
        assert torch.equal(plain.observations[one, env], jittered.observations[other, env])
        assert torch.equal(plain.targets[one, env], jittered.targets[other, env])
        after = len(one) - int(shift[env])
        assert not jittered.observations[after:, env].any()


@pytest.mark.parametrize("name", ["delayed_cue", "copy_memory", "permuted_copy", "pattern_binding"])
def test_noise_fills_its_share_of_the_delay_and_nothing_else(name):
    plain, noisy = script(name), script(name, noise=0.3)
    assert torch.equal(plain.targets, noisy.targets)
    different = (plain.observations != noisy.observations).any(-1)
    delay = different.any(1)
    assert different[delay].float().mean() == pytest.approx(0.3, abs=0.02)
    assert not plain.observations[delay].any()
    assert noisy.observations[delay].sum(-1).max() == 1
    first, last = delay.nonzero().min(), delay.nonzero().max()
    assert delay[first : last + 1].all()


def test_rewritten_cue_is_the_one_that_counts():
    drawn = script("delayed_cue", rewrite=0.5)
    cues = drawn.observations[:, :, :16]
    shown = cues.any(-1).sum(0)
    assert set(shown.tolist()) == {1, 2}
    assert (shown == 2).float().mean() == pytest.approx(0.5, abs=0.1)
    last = (cues.any(-1) * torch.arange(1, len(cues) + 1).unsqueeze(1)).argmax(0)
    assert torch.equal(cues[last, torch.arange(400)].argmax(-1), drawn.targets[-1])
    steps = last[shown == 2]
    assert (int(steps.min()), int(steps.max())) == (1, 48)
