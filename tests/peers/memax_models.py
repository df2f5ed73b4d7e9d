"""Models of memax (Morad et al., https://github.com/smorad/memax) under the peers' loop: ``pip install memax equinox``.

One layer of the library's residual model at its own sizes, which are smaller than those of the papers: S6 has one state
a channel, no convolution and no gate; the matrices of FART (linear attention), DeltaNet and GDN (Gated DeltaNet) are
11 x 11, one head; attention has one head. ``gdn_64`` has a matrix of 64 x 64 in place of that, as many numbers as the
four matrices of 32 x 32 of ours.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax_parts import INPUTS, WIDTH, heads, init_heads
from memax.equinox.models.residual import ResidualModel
from memax.equinox.semigroups.delta import DeltaNet
from memax.equinox.semigroups.fart import FART
from memax.equinox.semigroups.gdn import GDN
from memax.equinox.train_utils import get_residual_memory_model

MODELS = {"s6": "S6", "deltanet": "DeltaNet", "gdn": "GDN", "fart": "FART", "attention": "Attention-RoPE", "gru": "GRU"}
MATRICES = {"deltanet": DeltaNet, "gdn": GDN, "fart": FART}


class Memax:
    """A model of memax by its name in :data:`MODELS`, for a matrix memory with ``_`` and the side of its matrix."""

    def __init__(self, name, horizon):
        name, _, side = name.partition("_")
        layer, name = MATRICES[name] if side else None, MODELS[name]
        arguments = {name: {"window_size": horizon}} if name.startswith("Attention") else {}

        def of_side(recurrent_size, key):
            return layer(hidden_size=recurrent_size, recurrent_size=int(side), key=key)

        def make(key):
            if side:
                return ResidualModel(of_side, INPUTS, WIDTH, WIDTH, num_layers=1, key=key)
            return get_residual_memory_model(
                name, INPUTS, WIDTH, WIDTH, num_layers=1, key=key, layer_kwargs=arguments, model_kwargs={}
            )

        self.make, self.static = make, eqx.partition(make(jax.random.PRNGKey(0)), eqx.is_inexact_array)[1]

    def init(self, key):
        one, two = jax.random.split(key)
        return {"model": eqx.partition(self.make(one), eqx.is_inexact_array)[0], **init_heads(two)}

    def state(self, batch):
        model = self.make(jax.random.PRNGKey(0))
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), model.initialize_carry())

    def sequence(self, p, h, observations, first):
        model = eqx.combine(p["model"], self.static)
        given = observations.swapaxes(0, 1), first.swapaxes(0, 1) > 0
        states, y = jax.vmap(lambda state, x: model(state, x))(h, given)
        return jax.tree.map(lambda x: x[:, -1], states), heads(p, y.swapaxes(0, 1))

    def step(self, p, h, observation, first):
        h, (logits, values) = self.sequence(p, h, observation[None], first[None])
        return h, (logits[0], values[0])
