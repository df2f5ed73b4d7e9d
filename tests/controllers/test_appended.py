"""A cache that moves on in place: the same numbers as by copies, and no state changes that was handed out before."""

import itertools

import pytest
import torch

from memsuite.controllers import make_controller
from memsuite.controllers.windows.appended import appended, buffered, emptied

WINDOWS = ("transformer", "fox", "gtrxl")


def copied(cache, new):
    return torch.cat([cache[:, 1:], new], 1)


def test_steps_are_those_of_copies_and_are_written_without_one():
    torch.manual_seed(0)
    cache = expected = torch.randn(3, 8, 5)
    places = []
    for _ in range(40):
        new = torch.randn(3, 1, 5)
        cache, expected = appended(cache, new), copied(expected, new)
        assert torch.equal(cache, expected)
        places.append(cache._base.data_ptr())
    assert sum(one != other for one, other in itertools.pairwise(places)) <= 40 // 4


def test_two_continuations_of_one_state_do_not_meet():
    torch.manual_seed(0)
    begin = appended(torch.randn(2, 6, 3), torch.randn(2, 1, 3))
    before = begin.clone()
    one, two = torch.randn(2, 1, 3), torch.randn(2, 1, 3)
    first, second = appended(begin, one), appended(begin, two)
    third = appended(first, two)
    assert torch.equal(begin, before)
    assert torch.equal(first, copied(before, one))
    assert torch.equal(second, copied(before, two))
    assert torch.equal(third, copied(first, two))
    assert first._base is begin._base
    assert second._base is not begin._base


@pytest.mark.parametrize(
    "part", [lambda x: x[:1], lambda x: x[:, :4], lambda x: x[..., :2], lambda x: x[:, 1:], torch.clone, torch.detach]
)
def test_a_part_of_a_cache_is_not_written_behind(part):
    torch.manual_seed(0)
    whole = buffered(torch.randn(2, 6, 3))
    before, cache = whole.clone(), part(whole)
    new = torch.randn(len(cache), 1, cache.shape[2])
    made = appended(cache, new)
    assert torch.equal(made, copied(cache, new))
    assert torch.equal(whole, before)
    following = torch.randn(2, 1, 3)
    assert torch.equal(appended(whole, following), copied(before, following))
    assert torch.equal(made, copied(cache, new))


def test_emptied_rows_leave_the_cache_as_it_was():
    whole = appended(torch.randn(3, 4, 2), torch.randn(3, 1, 2))
    before = whole.clone()
    found = emptied(whole, torch.tensor([1]))
    assert torch.equal(whole, before)
    assert not found[1].any()
    assert torch.equal(found[::2], before[::2])


def test_the_gradient_is_that_of_a_copy():
    cache, new = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 5, 3), (2, 1, 3)))
    assert torch.autograd.gradcheck(appended, (cache, new))


@pytest.mark.parametrize("name", WINDOWS)
def test_states_that_were_handed_out_stay_and_steps_are_those_of_the_sequence(name):
    torch.manual_seed(0)
    model = make_controller(name, input_dim=3, hidden_dim=16, context_length=7).double()
    x, is_first = torch.randn(30, 4, 3, dtype=torch.float64), torch.rand(30, 4) < 0.15
    is_first[0] = True
    states, copies, features = [model.init_state(4)], [], []
    with torch.no_grad():
        for now, first in zip(x, is_first, strict=True):
            copies.append([leaf.clone() for leaf in torch.utils._pytree.tree_leaves(states[-1])])
            feature, state = model.forward_step(now, model.reset_mask(states[-1], first))
            states.append(state)
            features.append(feature)
        expected, _ = model.forward_sequence(x, model.init_state(4), is_first)
    torch.testing.assert_close(torch.stack(features), expected, rtol=0, atol=1e-12)
    for state, copy in zip(states, copies, strict=False):
        assert all(torch.equal(*pair) for pair in zip(torch.utils._pytree.tree_leaves(state), copy, strict=True))
