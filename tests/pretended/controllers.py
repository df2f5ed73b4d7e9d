"""Every controller on a pretended accelerator: nothing of it stays on the host, and the host never waits for it."""

import accelerator
import pytest
import torch
from torch.utils import _pytree as pytree

from memsuite.controllers import CONTROLLERS, make_controller

STEPS, ROWS, WIDTH = 40, 4, 6


@pytest.mark.parametrize("horizon", [None, 30], ids=["no horizon", "horizon"])
@pytest.mark.parametrize("name", [name for name in CONTROLLERS if name != "hyena"])
def test_a_controller_stays_on_its_device(name, horizon, monkeypatch):
    model = make_controller(name, input_dim=WIDTH, memory_horizon=horizon, hidden_dim=16)
    with accelerator.pretending(monkeypatch, model) as watch:
        place = accelerator.device()
        x = torch.zeros(STEPS, ROWS, WIDTH, device=place)
        first = torch.zeros(STEPS, ROWS, dtype=torch.bool, device=place)
        features, after = model.forward_sequence(x, model.init_state(ROWS, place), first)
        features.sum().backward()
        one, last = model.forward_step(x[0], model.reset_mask(after, first[0]))
        found = [features, one, *pytree.tree_leaves((after, last))]
        found += [p.grad for p in model.parameters() if p.grad is not None]
        assert {part.device for part in found} == {place}
        assert watch.numbers == watch.shapes == watch.constants == 0


def test_hyena_waits_because_it_is_cut_where_an_episode_begins(monkeypatch):
    """As its documentation says; the day that it does not, it belongs into the test above."""
    model = make_controller("hyena", input_dim=WIDTH, memory_horizon=30, hidden_dim=16)
    with accelerator.pretending(monkeypatch, model) as watch:
        x = torch.zeros(STEPS, ROWS, WIDTH, device=accelerator.device())
        with pytest.raises(RuntimeError):  # where they begin is a list of numbers, which is more than is counted
            model.forward_sequence(x, model.init_state(ROWS, x.device), torch.zeros_like(x[..., 0], dtype=torch.bool))
        assert watch.shapes == 1
