"""A task without memory has a horizon of 0, and a model that is told so can still learn to remember."""

import pytest
import torch

from memsuite.controllers import CONTROLLERS, make_controller


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_parameter_has_a_gradient_at_a_horizon_of_zero(name):
    """A factor of zero on what is written and on what is read leaves neither a gradient."""
    torch.manual_seed(0)
    controller = make_controller(name, input_dim=5, hidden_dim=16, memory_horizon=0)
    reference = make_controller(name, input_dim=5, hidden_dim=16, memory_horizon=10)
    first = torch.zeros(12, 3, dtype=torch.bool)
    for model in (controller, reference):
        features, _ = model.forward_sequence(torch.randn(12, 3, 5), model.init_state(3), first)
        (features * torch.randn_like(features)).sum().backward()
    for (key, ours), theirs in zip(controller.named_parameters(), reference.parameters(), strict=True):
        if theirs.grad is not None and theirs.shape == ours.shape and float(theirs.grad.abs().max()):
            assert ours.grad is not None
            assert float(ours.grad.abs().max()), key
