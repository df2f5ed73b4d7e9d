"""Mamba and Mamba-2 against the ``mamba-ssm`` package, and their retention before training."""

import functools
import importlib.util
import math
from pathlib import Path

import pytest
import torch

from memsuite.controllers import mamba2
from memsuite.controllers.base import Controller, map_state
from memsuite.controllers.mamba import Mamba, MambaLayer
from memsuite.controllers.mamba2 import Mamba2, Mamba2Layer, package_scan, rows_at_once, run_package
from memsuite.errors import UsageError
from memsuite.ops import matrix_scan

GOLDEN = Path(__file__).parents[1] / "golden"
LAYERS = {"mamba": MambaLayer, "mamba2": Mamba2Layer}
CLASSES = {"mamba": Mamba, "mamba2": Mamba2}
every_block = pytest.mark.parametrize("name", LAYERS)


@functools.cache
def recorder():
    spec = importlib.util.spec_from_file_location("make_mamba", GOLDEN / "make_mamba.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(name: str, source: str) -> dict:
    """Return the package's output: a recorded one, or computed now where the package is installed."""
    if source == "golden":
        return torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    if importlib.util.find_spec("mamba_ssm") is None:
        pytest.skip("mamba_ssm is not installed; the golden files stand in for it")
    try:
        return recorder().record(name, seed=1)
    except ImportError as error:
        pytest.skip(f"mamba_ssm cannot be imported: {error}")


def layer_of(name: str, record: dict) -> Controller:
    """Build our block with the package's parameters."""
    sizes = dict(record["sizes"])
    layer = LAYERS[name](sizes.pop("d_model"), **sizes)
    layer.load_state_dict(record["parameters"], strict=True)
    return layer


def assert_near(one, other):
    """Assert that two tensors are equal to 1e-5 of the largest number."""
    scale = max(1.0, float(other.abs().max()))
    torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-5)


def never(x):
    return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)


@every_block
@pytest.mark.parametrize("mode", ["sequence", "step"])
@pytest.mark.parametrize("source", ["golden", "package"])
def test_values_and_gradients_are_the_packages(name, mode, source):
    record = recorded(name, source)
    layer = layer_of(name, record)
    x = record["x"].transpose(0, 1).clone().requires_grad_()
    run = type(layer).forward_sequence if mode == "sequence" else Controller.forward_sequence
    y, state = run(layer, x, layer.init_state(x.shape[1]), never(x))
    y.backward(record["grad_y"].transpose(0, 1))
    assert_near(y.detach().transpose(0, 1), record["y"])
    assert_near(y.detach().transpose(0, 1), record["steps"])
    assert_near(x.grad.transpose(0, 1), record["grad_x"])
    grads = {key: parameter.grad for key, parameter in layer.named_parameters()}
    assert grads.keys() == record["grads"].keys()
    for key, grad in grads.items():
        assert_near(grad, record["grads"][key])
    assert_near(state["conv"].detach().mT, record["conv"][..., 1:])
    assert_near(state["ssm"].detach() if name == "mamba" else state["ssm"].detach().mT, record["ssm"])


@every_block
def test_state_dict_moves_both_ways(name):
    record = recorded(name, "golden")
    ours = layer_of(name, record).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in record["parameters"].items()
    }
    assert all(torch.equal(value, record["parameters"][key]) for key, value in ours.items())


@every_block
def test_state_dict_moves_into_the_package(name):
    recorded(name, "package")
    block = recorder().build(name)
    block.load_state_dict(layer_of(name, recorded(name, "golden")).state_dict(), strict=True)


@every_block
def test_default_initialisation_is_the_packages(name):
    layer = LAYERS[name](64)
    assert (layer.D == 1).all()
    assert layer.conv1d.bias.abs().max() > 0
    bias = layer.dt_proj.bias if name == "mamba" else layer.dt_bias
    dt = torch.nn.functional.softplus(bias)
    assert 0.00099 < dt.min() <= dt.max() < 0.101
    rates = layer.A_log.exp()
    assert 1 <= rates.min() <= rates.max() < 16.001


@every_block
def test_a_blank_input_is_no_drive_with_a_horizon(name):
    layer = LAYERS[name](16, memory_horizon=100)
    x = torch.zeros(5, 2, 16)
    y, state = layer.forward_sequence(x, layer.init_state(2), never(x))
    assert not y.any()
    assert not state["ssm"].any()


def test_negative_eigenvalues_are_their_equation():
    """A decay of ``2 exp(dt A) - 1`` (arXiv 2411.12537): the state of every step against a loop in double precision."""
    torch.manual_seed(0)
    layer = Mamba2Layer(8, negative_eigenvalues=True, d_state=4, headdim=4, dt_min=0.2, dt_max=2.0).double()
    x, is_first = torch.randn(40, 2, 8, dtype=torch.float64), torch.rand(40, 2) < 0.1
    state = {key: torch.randn_like(leaf) for key, leaf in layer.init_state(2).items()}
    y, after = layer.forward_sequence(x, state, is_first)
    *_, dt = layer._project(x)
    decay = 2 * torch.exp(-dt * layer.A_log.exp()) - 1
    assert (decay < 0).any()
    assert (decay > 0).any()
    s, conv = state["ssm"], state["conv"]
    for t in range(40):
        s, conv = (leaf * ~is_first[t].view(-1, *[1] * (leaf.dim() - 1)) for leaf in (s, conv))
        z, *ubc, _ = layer._project(x[t])
        mixed, conv = layer.conv1d.step(torch.cat(ubc, -1), conv)
        u, b, c = mixed[:, :16].view(2, 4, 4), mixed[:, 16:20], mixed[:, 20:]
        s = decay[t][..., None, None] * s + torch.einsum("bn,bhp,bh->bhnp", b, u, dt[t])
        read = torch.einsum("bn,bhnp->bhp", c, s) + layer.D.unsqueeze(-1) * u
        gated = read.flatten(-2) * torch.nn.functional.silu(z)
        normed = gated * (gated.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * layer.norm.weight
        torch.testing.assert_close(y[t], normed @ layer.out_proj.weight.t(), rtol=0, atol=1e-10)
    torch.testing.assert_close(after["ssm"], s, rtol=0, atol=1e-10)


def test_a_decay_of_zero_is_a_forgotten_state():
    layer = Mamba2Layer(8, negative_eigenvalues=True, d_state=4).double()
    log_decay, sign = layer._decay(torch.full((1, 1), math.log(2), dtype=torch.float64) / layer.A_log.exp())
    assert (log_decay < -30).all()
    assert sign.abs().eq(1).all()


@pytest.mark.parametrize(
    ("name", "arguments"), [*((name, {}) for name in LAYERS), ("mamba2", {"negative_eigenvalues": True})]
)
def test_the_slowest_and_the_fastest_state_hold_the_horizon(name, arguments):
    """After H blank steps every state has kept between ``exp(-1)`` and nearly all of its value."""
    layer = LAYERS[name](16, memory_horizon=500, **arguments)
    state = layer.init_state(1)
    state["ssm"] += 1
    x = torch.zeros(500, 1, 16)
    _, after = layer.forward_sequence(x, state, never(x))
    assert 0.36 < after["ssm"].min() <= after["ssm"].max() < 1


@every_block
def test_size_of_the_state_is_as_documented(name):
    controller = CLASSES[name](input_dim=5, hidden_dim=8, depth=2)
    inner = 16
    per_layer = inner * (3 + 16) if name == "mamba" else inner * 64 + 3 * (inner + 2 * 64)
    assert controller.state_floats() == 2 * per_layer
    assert {id(p) for p in controller.recurrent_parameters()} < {id(p) for p in controller.parameters()}


@every_block
@pytest.mark.parametrize("wrong", [{"d_state": 0}, {"d_conv": 0}, {"expand": 0}, {"dt_min": 0.0}, {"dt_min": 0.2}])
def test_impossible_sizes_are_refused(name, wrong):
    with pytest.raises(UsageError):
        CLASSES[name](input_dim=5, hidden_dim=8, **wrong)


def test_heads_must_divide_the_channels():
    with pytest.raises(UsageError, match="headdim 5 does not divide the 16 channels"):
        Mamba2(input_dim=5, hidden_dim=8, headdim=5)


@every_block
def test_autocast_leaves_the_recurrence_in_full_precision(name):
    controller = CLASSES[name](input_dim=5, hidden_dim=8, memory_horizon=1000)
    x, state = torch.randn(9, 2, 5), controller.init_state(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y, after = controller.forward_sequence(x, state, never(x))
        _, stepped = Controller.forward_sequence(controller, x, state, never(x))
    assert torch.isfinite(y).all()
    for one, other in zip(after, stepped, strict=True):
        assert one["ssm"].dtype == torch.float32
        torch.testing.assert_close(one["ssm"], other["ssm"], rtol=0, atol=0.02 * float(other["ssm"].abs().max()))


def counting_scan(seen):
    """Return the equations of the package's scan, with its arguments; ``seen`` gets the rows of each call."""

    def scan(u, dt, a, b, c, chunk, initial_states, seq_idx, return_final_states):
        assert all(x.is_contiguous() for x in (u, dt, b, c, initial_states, seq_idx))
        seen.append(len(u))
        h, before, y = initial_states, torch.zeros_like(seq_idx[:, 0]), []
        for t in range(u.shape[1]):
            h = torch.where((seq_idx[:, t] == before).view(-1, 1, 1, 1), h, 0.0)
            written = (u[:, t] * dt[:, t].unsqueeze(-1)).unsqueeze(-1) * b[:, t].unsqueeze(-2)
            h = h * (dt[:, t] * a).exp().view(*dt[:, t].shape, 1, 1) + written
            y.append((h * c[:, t].unsqueeze(-2)).sum(-1))
            before = seq_idx[:, t]
        return torch.stack(y, 1), h

    return scan


def test_the_package_is_given_what_its_offsets_can_count(monkeypatch):
    """It counts in 32 bits, and is silently wrong beyond (state-spaces/mamba#1015)."""
    assert rows_at_once(200, 4, 64, 64) == (2**31 - 1) // (4 * 4 * 64 * 64)
    assert rows_at_once(10**7, 4, 64, 64) == 0
    u, dt = torch.randn(70, 5, 2, 8).double(), torch.rand(70, 5, 2).double()
    b, c, s0 = *torch.randn(2, 70, 5, 1, 4).double().unbind(), torch.randn(5, 2, 4, 8).double()
    rates, is_first = -torch.rand(2).double(), torch.rand(70, 5) < 0.1
    expected = matrix_scan(c, b, u * dt.unsqueeze(-1), dt * rates, is_first, s0)
    for rows, calls in ((5, [5]), (2, [2, 2, 1]), (1, [1] * 5)):
        monkeypatch.setattr(mamba2, "LARGEST", rows * 2 * 2 * 64 * 64)
        seen = []
        found = run_package(counting_scan(seen), u, dt, rates, b, c, is_first, s0)
        assert seen == calls
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.gpu
def test_packages_kernel_equals_our_own_op():
    """With initial state and resets, values and gradients agree within the accuracy of TF32 products."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    scan = package_scan()
    if scan is None:
        pytest.skip("mamba_ssm is not installed")
    layer = Mamba2Layer(128).cuda()
    x = torch.randn(200, 4, 128, device="cuda")
    is_first = torch.rand(200, 4, device="cuda") < 0.02
    is_first[0, 0] = True
    state = map_state(torch.randn_like, layer.init_state(4))
    u, dt = torch.randn(200, 4, 4, 64, device="cuda"), torch.rand(200, 4, 4, device="cuda")
    b, c = torch.randn(2, 200, 4, 1, 64, device="cuda").unbind()
    inputs = [u, dt, b, c, state["ssm"]]
    rates = -torch.rand(4, device="cuda")

    def own(u, dt, b, c, s0):
        return matrix_scan(c, b, u * dt.unsqueeze(-1), dt * rates, is_first, s0)

    def theirs(u, dt, b, c, s0):
        return run_package(scan, u, dt, rates, b, c, is_first, s0)

    results = []
    for run in (own, theirs):
        leaves = [value.clone().requires_grad_() for value in inputs]
        y, last = run(*leaves)
        results.append([y, last, *torch.autograd.grad(y.square().mean() + last.square().mean(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02 * float(one.abs().max()))
    y, _ = layer.forward_sequence(x, state, is_first)
    stepped, _ = Controller.forward_sequence(layer, x, state, is_first)
    torch.testing.assert_close(y, stepped, rtol=0.02, atol=0.02 * float(y.abs().max()))
