"""The optimiser: which parameters it orthogonalises, whose steps it takes, and that it goes on from its state."""

import copy

import pytest
import torch
from torch import nn

from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl.guard import UpdateGuard
from memsuite.rl.optimizer import Muon, make_optimizer, orthogonalised
from memsuite.runs.ppo import PPOConfig, ResolvedPPO

NAN = float("nan")


def network(controller="gru", **arguments):
    return MemoryPPO(
        task="delayed_cue",
        horizon=12,
        num_envs=64,
        controller=controller,
        controller_args={"hidden_dim": 32, **arguments},
    ).model


def pair(dtype=torch.float32, decay=0.0):
    """A matrix and a bias with an optimiser, and Lightning's wrapper as the guard sees it."""
    matrix, bias = nn.Parameter(torch.randn(24, 8, dtype=dtype)), nn.Parameter(torch.randn(24, dtype=dtype))
    groups = [{"params": [bias], "orthogonal": False}, {"params": [matrix], "orthogonal": True}]
    optimizer = Muon(groups, decay=decay, lr=0.01, betas=(0.9, 0.999), eps=1e-5, fused=True)
    return matrix, bias, optimizer, type("Wrapped", (), {"optimizer": optimizer, "step": staticmethod(optimizer.step)})


@pytest.mark.parametrize("shape", [(64, 48), (96, 32), (32, 96), (48, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_orthogonalised_matrix_keeps_its_singular_vectors_and_has_singular_values_near_one(shape, dtype):
    matrix = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(3))
    rows, _, columns = torch.linalg.svd(matrix, full_matrices=False)
    inner = (rows.mT @ orthogonalised(matrix).to(dtype) @ columns.mT).double()
    values = inner.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (inner - values.diag()).abs().max() < (1e-9 if dtype == torch.float64 else 0.05)


def test_a_matrix_without_a_gradient_is_not_moved_and_none_is_not_a_number():
    assert torch.equal(orthogonalised(torch.zeros(4, 6)), torch.zeros(4, 6))


def test_matrices_take_the_steps_of_muon_and_the_rest_those_of_adam():
    torch.manual_seed(0)
    matrix, bias, optimizer, _ = pair()
    one, other = nn.Parameter(matrix.detach().clone()), nn.Parameter(bias.detach().clone())
    muon = torch.optim.Muon([one], lr=0.01, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam([other], lr=0.01, betas=(0.9, 0.999), eps=1e-5, fused=True)
    start = matrix.detach().clone()
    for _ in range(5):
        matrix.grad, bias.grad = torch.randn_like(matrix), torch.randn_like(bias)
        one.grad, other.grad = matrix.grad.clone(), bias.grad.clone()
        for each in (optimizer, muon, adam):
            each.step()
    assert torch.equal(bias, other)
    assert (matrix - one).norm() < 0.02 * (one - start).norm()  # PyTorch's runs in bfloat16


def test_a_decay_takes_off_a_share_of_the_distance_from_the_first_value():
    """Beside it stands an optimiser without decay, which sees the same gradients and so takes the same steps."""
    torch.manual_seed(0)
    matrix, bias, optimizer, _ = pair(torch.float64, decay=20.0)  # a fifth a step
    plain, rest, other, _ = pair(torch.float64)
    with torch.no_grad():
        plain.copy_(matrix)
        rest.copy_(bias)
    first, expected = matrix.detach().clone(), matrix.detach().clone()
    for _ in range(4):
        matrix.grad, bias.grad = torch.randn_like(matrix), torch.randn_like(bias)
        plain.grad, rest.grad = matrix.grad.clone(), bias.grad.clone()
        before = plain.detach().clone()
        optimizer.step()
        other.step()
        expected = expected - 0.2 * (expected - first) + (plain.detach() - before)
        torch.testing.assert_close(matrix.detach(), expected, rtol=0, atol=1e-12)
        assert torch.equal(bias, rest)  # Adam's are not drawn back
    assert (matrix - first).norm() < (plain - first).norm()


def test_a_decay_never_goes_beyond_the_first_value():
    matrix, bias, optimizer, _ = pair(torch.float64, decay=1e6)
    first = matrix.detach().clone()
    for _ in range(3):
        matrix.grad, bias.grad = torch.randn_like(matrix), torch.zeros_like(bias)
        optimizer.step()
        assert (matrix - first).norm() < 1.3 * 8**0.5 * 0.2 * 24**0.5 * 0.01  # the length of one step


def test_a_decay_needs_orthogonalised_matrices():
    with pytest.raises(UsageError, match=r"matrix_decay acts under .* muon alone; here it is adam"):
        MemoryPPO(task="delayed_cue", num_envs=64, ppo=PPOConfig(matrix_decay=0.3, optimizer="adam"))
    with pytest.raises(UsageError, match="matrix_decay is -1; it must be at least 0"):
        PPOConfig(matrix_decay=-1)


@pytest.mark.parametrize("decay", [0.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_skipped_step_leaves_parameters_and_state_as_they_were(dtype, decay):
    matrix, bias, optimizer, wrapped = pair(dtype, decay)
    guard = UpdateGuard(3)
    for value, loss in ((1.0, 1.0), (NAN, NAN)):
        before = [one.detach().clone() for one in (matrix, bias)], copy.deepcopy(optimizer.state_dict()["state"])
        for parameter in (matrix, bias):
            parameter.grad = torch.full_like(parameter, value)
        skipped = guard.step(wrapped, torch.tensor(loss), torch.tensor(1.0))
        assert float(skipped) == (loss != loss)
    assert torch.equal(matrix, before[0][0])
    assert torch.equal(bias, before[0][1])
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(value, before[1][number][name]), name


@pytest.mark.parametrize("decay", [0.0, 20.0])
def test_it_goes_on_from_its_state_to_the_same_bits(decay):
    torch.manual_seed(0)
    matrix, bias, optimizer, _ = pair(decay=decay)

    def step(one, two, its):
        generator = torch.Generator().manual_seed(5)
        for parameter in (one, two):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        its.step()

    step(matrix, bias, optimizer)
    again, rest, other, _ = pair(decay=decay)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    with torch.no_grad():
        again.copy_(matrix)
        rest.copy_(bias)
    step(matrix, bias, optimizer)
    step(again, rest, other)
    assert torch.equal(matrix, again)
    assert torch.equal(bias, rest)


@pytest.mark.parametrize(("controller", "factor"), [("gru", 6.0), ("lru", 6.0), ("transformer", 0.3), ("mamba", 0.3)])
def test_the_matrices_of_the_controller_are_orthogonalised_and_nothing_else(controller, factor):
    model = network(controller)
    ppo = ResolvedPPO(optimizer="muon", matrix_lr_scale=factor, recurrent_lr_scale=0.5)
    optimizer = make_optimizer(model, ppo)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    recurrent = {id(parameter) for parameter in model.controller.recurrent_parameters()}
    seen = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name, here = names[id(parameter)], 0.5 if id(parameter) in recurrent else 1.0
            matrix = parameter.ndim == 2 and name.startswith("controller.") and name != "controller.embed.weight"
            assert group["orthogonal"] == matrix, name
            assert group["scale"] == (here * factor if matrix else here), name
            seen.append(name)
    assert sorted(seen) == sorted(names.values())
    assert CONTROLLERS[controller].matrix_factor == factor


def test_adam_is_adam_for_all():
    optimizer = make_optimizer(network(), ResolvedPPO(optimizer="adam"))
    assert type(optimizer) is torch.optim.Adam


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "muon"),
        ({"ppo": PPOConfig(draws=1)}, "adam"),
        ({"ppo": PPOConfig(draws=1), "objective": "supervised"}, "muon"),
        ({"ppo": PPOConfig(optimizer="adam")}, "adam"),
        ({"task": "gym:CartPole-v1"}, "adam"),
    ],
)
def test_muon_is_the_default_where_scripts_are_shared(settings, expected):
    settings = {"task": "delayed_cue", "num_envs": 64, **settings}
    ppo = MemoryPPO(**settings).ppo
    assert ppo.optimizer == expected
    assert (ppo.matrix_lr_scale != 1.0) == (expected == "muon")
