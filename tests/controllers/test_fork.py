"""Draws that go on from one state, whatever they share of it, are what separate rows are: features and gradients."""

import pytest
import torch
from torch.utils import _pytree as pytree

from memsuite import make_controller
from memsuite.controllers.base import Controller

ROWS, DRAWS, STEPS = 3, 4, 5
MODELS = ["gru", "mamba", "gated_deltanet", "hyena", "transformer", "gtrxl", "fox"]


def run(model: Controller, state, inputs: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Take steps ``[T, B, D]`` with resets; return the features."""
    features = []
    for x, is_first in zip(inputs, first, strict=True):
        feature, state = model.forward_step(x, model.reset_mask(state, is_first))
        features.append(feature)
    return torch.stack(features)


@pytest.mark.parametrize("context", [4, 9, 30])
@pytest.mark.parametrize("name", MODELS)
def test_a_fork_is_as_many_separate_rows(name, context):
    torch.manual_seed(0)
    model = make_controller(name, input_dim=3, hidden_dim=16, memory_horizon=context).double()
    opening = torch.randn(8, ROWS, 3).double().requires_grad_()
    begins = torch.zeros(8, ROWS, dtype=torch.bool)
    begins[5, 1] = True
    inputs = torch.randn(STEPS, ROWS * DRAWS, 3).double()
    first = torch.zeros(STEPS, ROWS * DRAWS, dtype=torch.bool)
    first[2, 1] = first[3, 6] = True
    found = []
    for shared in (True, False):
        _, state = model.forward_sequence(opening, model.init_state(ROWS), begins)
        forked = model.fork(state, DRAWS, STEPS) if shared else Controller.fork(model, state, DRAWS, STEPS)
        features = run(model, forked, inputs, first)
        weight = torch.linspace(-1, 1, features.numel()).view_as(features).double()
        found.append((features, *torch.autograd.grad((features * weight).sum(), [opening, *model.parameters()])))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["transformer", "gtrxl", "fox"])
def test_what_one_draw_reads_that_is_not_finite_reaches_no_other(name):
    model = make_controller(name, input_dim=3, hidden_dim=16, memory_horizon=9).double()
    inputs, first = torch.randn(STEPS, ROWS * DRAWS, 3).double(), torch.zeros(STEPS, ROWS * DRAWS, dtype=torch.bool)
    first[3, 5] = True
    state = model.fork(model.init_state(ROWS), DRAWS, STEPS)
    expected = run(model, state, inputs, first)
    inputs[1, 5] = torch.nan
    features = run(model, state, inputs, first)
    spoilt = torch.zeros_like(first)
    spoilt[1:3, 5] = True
    assert features[spoilt].isnan().all()
    torch.testing.assert_close(features[~spoilt], expected[~spoilt], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["transformer", "gtrxl"])
def test_a_window_is_stored_once_for_all_draws(name):
    model = make_controller(name, input_dim=3, hidden_dim=16, memory_horizon=50)
    state = model.init_state(ROWS)
    forked = pytree.tree_leaves(model.fork(state, DRAWS, STEPS))
    assert sum(leaf.numel() for leaf in forked) < 1.1 * sum(leaf.numel() for leaf in pytree.tree_leaves(state))


def test_long_walks_copy_the_window():
    model = make_controller("transformer", input_dim=3, hidden_dim=16, memory_horizon=10)
    forked = pytree.tree_leaves(model.fork(model.init_state(ROWS), DRAWS, 1000))
    assert {leaf.shape[0] for leaf in forked} == {ROWS * DRAWS}
