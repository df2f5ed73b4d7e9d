"""A cache that moves on in place: the same numbers as by copies, and no state changes that was handed out before."""

import itertools
import sys
import threading

import pytest
import torch

from memsuite.controllers import make_controller
from memsuite.controllers.windows.appended import appended, emptied
from memsuite.rl.rollout import Actor
from memsuite.rl.saved.resume import acting_state

WINDOWS = ("transformer", "fox", "gtrxl")


@pytest.fixture(autouse=True)
def autograd_off(request):
    """Where autograd is on, caches are copied; the tests of gradients turn it on."""
    with torch.set_grad_enabled("gradient" in request.node.name or "differentiated" in request.node.name):
        yield


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
    whole = appended(torch.randn(2, 6, 3), torch.randn(2, 1, 3))
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


def test_a_cache_of_another_kind_of_number_is_promoted_as_by_a_copy():
    cache, new = torch.randn(2, 4, 3), torch.randn(2, 1, 3, dtype=torch.float64)
    with torch.no_grad():
        made = appended(cache, new)
    assert made.dtype == torch.float64
    assert torch.equal(made, copied(cache, new))


def test_threads_that_go_on_from_one_state_do_not_meet():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for seed in range(50):
            torch.manual_seed(seed)
            with torch.no_grad():
                begin = appended(torch.randn(2, 6, 3), torch.randn(2, 1, 3))
            news, made = [torch.randn(2, 1, 3) for _ in range(4)], [None] * 4
            barrier = threading.Barrier(4)

            def go(at, begin=begin, news=news, made=made, barrier=barrier):
                barrier.wait()
                with torch.no_grad():
                    made[at] = appended(begin, news[at])

            threads = [threading.Thread(target=go, args=(at,)) for at in range(4)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            assert all(torch.equal(one, copied(begin, new)) for one, new in zip(made, news, strict=True))
    finally:
        sys.setswitchinterval(before)


def test_a_query_that_is_differentiated_keeps_what_it_saw():
    """With only some parameters trained, autograd keeps a cache that has no gradient; it may not be written behind."""
    torch.manual_seed(0)
    model = make_controller("fox", input_dim=3, hidden_dim=16, context_length=5)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("query" in name)
    state, features = model.init_state(2), []
    for _ in range(9):
        feature, state = model.forward_step(torch.randn(2, 3), state)
        features.append(feature)
    torch.stack(features).sum().backward()


@pytest.mark.parametrize("name", WINDOWS)
def test_a_compiled_step_gives_the_same(name):
    torch.manual_seed(0)
    model = make_controller(name, input_dim=3, hidden_dim=16, context_length=4)
    step, one, other = torch.compile(model.forward_step, backend="eager"), model.init_state(2), model.init_state(2)
    for x in torch.randn(7, 2, 3):
        (compiled, one), (plain, other) = step(x, one), model.forward_step(x, other)
        torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-6)


def test_a_saved_state_holds_the_state_alone():
    """Neither the room behind a cache nor the steps before it are saved."""

    class Still:
        def state_dict(self):
            return {}

    with torch.no_grad():
        cache = appended(torch.randn(2, 6, 3), torch.randn(2, 1, 3))
    saved = acting_state(Still(), Actor(None, {"keys": cache}), torch.zeros(2), {})["state"]["keys"]
    assert torch.equal(saved, cache)
    assert cache.untyped_storage().nbytes() > saved.untyped_storage().nbytes() == saved.nbytes


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
