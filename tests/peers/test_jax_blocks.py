"""The block models in JAX compute what memsuite's do, from the same weights: the comparison of speed is of one work.

Skipped where neither ``MEMSUITE_JAX`` nor ``make bench-peers`` names a Python with JAX.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from memsuite import make_controller
from memsuite.rl import ActorCritic

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("MEMSUITE_JAX", HERE.parents[1] / ".venv-jax/bin/python"))
HORIZON, ENVS = 50, 3
THEIRS = """
import sys
import jax
import numpy as np
import jax_blocks
name, given, made = sys.argv[1:]
data = dict(np.load(given))
kind = getattr(jax_blocks, name)
net = kind(len(data["x"])) if name == "Transformer" else kind()
weights = {key[2:]: value for key, value in data.items() if key.startswith("p.")}
state = net.state(data["x"].shape[1])
_, (logits, values) = jax.jit(net.sequence)(weights, state, data["x"], data["first"])
steps, step = [], jax.jit(net.step)
for x, first in zip(data["x"], data["first"]):
    state, (one, _) = step(weights, state, x, first)
    steps.append(one)
drawn = net.init(jax.random.PRNGKey(0))
assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in weights.items()}
np.savez(made, logits=logits, values=values, steps=np.stack(steps))
"""
SHARED = {
    "embed": "embed.weight",
    "norm": "blocks.0.norm.weight",
    "mlp_norm": "blocks.0.mlp.0.weight",
    "up": "blocks.0.mlp.1.up.weight",
    "down": "blocks.0.mlp.1.down.weight",
    "shift": "blocks.0.shift",
}
LAYERS = {
    "mamba": {
        "in": "in_proj.weight",
        "conv": "conv1d.weight",
        "conv_b": "conv1d.bias",
        "x": "x_proj.weight",
        "dt": "dt_proj.weight",
        "dt_b": "dt_proj.bias",
        "a_log": "A_log",
        "d": "D",
        "out": "out_proj.weight",
    },
    "gated_deltanet": {
        "qkv": "qkv.weight",
        "conv": "conv.weight",
        "query_b": "query_bias",
        "decay": "decay.weight",
        "decay_b": "decay.bias",
        "log_scale": "log_scale",
        "write": "write.weight",
        "gate": "gate.weight",
        "gate_b": "gate.bias",
        "head_norm": "norm.weight",
        "out": "out.weight",
    },
    "linear_attention": {"qkv": "qkv.weight", "head_norm": "norm.weight", "out": "out.weight"},
    "transformer": {"qkv": "qkv.weight", "norm_out": "norm.weight", "out": "out.weight"},
}
CLASSES = {
    "mamba": "Mamba",
    "gated_deltanet": "GatedDeltaNet",
    "linear_attention": "LinearAttention",
    "transformer": "Transformer",
}


def named_as_theirs(network: ActorCritic, controller: str) -> dict[str, np.ndarray]:
    """Return the weights by the peers' names, inputs of a map in rows, and no norm's weight before the heads."""
    ours = dict(network.controller.named_parameters())
    layer = {theirs: f"blocks.0.layer.{name}" for theirs, name in LAYERS[controller].items()}
    found = {theirs: ours[name] for theirs, name in (SHARED | layer).items() if name in ours}
    found |= {"wa": network.actor.weight, "ba": network.actor.bias}
    found |= {"wc": network.critic.weight, "bc": network.critic.bias}
    return {f"p.{name}": value.detach().squeeze(1).t().numpy() if value.ndim > 1 else value.detach().numpy()
            for name, value in found.items()}  # fmt: skip


@pytest.mark.skipif(not PYTHON.exists(), reason="needs a Python with JAX: make bench-peers")
@pytest.mark.parametrize("controller", LAYERS)
def test_the_same_weights_give_the_same_logits(controller, tmp_path):
    torch.manual_seed(0)
    network = ActorCritic(make_controller(controller, input_dim=9, hidden_dim=128, depth=1), 8)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5) if parameter.ndim > 1 else None
    x, first = torch.randn(HORIZON, ENVS, 9), torch.zeros(HORIZON, ENVS)
    first[0] = 1
    if controller != "transformer":  # the peer's reads whole episodes alone
        first[17, 1] = first[18, 2] = first[40] = 1
    with torch.no_grad():
        logits, values, _ = network(x, network.init_state(ENVS), first > 0)
    given, made = tmp_path / "given.npz", tmp_path / "made.npz"
    np.savez(given, x=x, first=first, **named_as_theirs(network, controller))
    subprocess.run([PYTHON, "-c", THEIRS, CLASSES[controller], given, made], cwd=HERE, check=True)
    theirs = np.load(made)
    for name, ours in (("logits", logits), ("values", values), ("steps", logits)):
        np.testing.assert_allclose(theirs[name], ours.numpy(), atol=2e-4, rtol=2e-4)
