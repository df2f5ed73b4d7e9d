"""What the peers in JAX share: sizes, initial weights, heads, norms; and a GRU and an S5.

A model has ``init(key)``, which returns its weights with those of the heads; ``state(batch)``; ``step(p, h,
observation, first)``; and ``sequence(p, h, observations, first)``, time first. The last two return the next state, and
logits with values.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

CUES, INPUTS, WIDTH = 8, 9, 128
EPSILON = 1e-8


def orthogonal(key, rows, columns, gain=1.0):
    return jax.nn.initializers.orthogonal(gain)(key, (rows, columns))


def lecun(key, rows, columns):
    return jax.nn.initializers.lecun_normal()(key, (rows, columns))


def init_heads(key):
    one, two = jax.random.split(key)
    policy = {"wa": orthogonal(one, WIDTH, CUES, 0.01), "ba": jnp.zeros(CUES)}
    return policy | {"wc": orthogonal(two, WIDTH, 1), "bc": jnp.zeros(1)}


def heads(p, h):
    return h @ p["wa"] + p["ba"], (h @ p["wc"] + p["bc"])[..., 0]


def rms_norm(x, weight=1.0):
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


class GRU:
    """Initial weights as in flax: input maps from LeCun's distribution, orthogonal recurrent weights, no biases.

    With ``chrono``, the biases of the update gate hold for 1 to that many steps (Tallec & Ollivier 2018).
    """

    def __init__(self, chrono=0):
        self.chrono = chrono

    def init(self, key):
        keys = jax.random.split(key, 8)
        inputs = jnp.concatenate([lecun(k, INPUTS, WIDTH) for k in keys[:3]], 1)
        recurrent = jnp.concatenate([orthogonal(k, WIDTH, WIDTH) for k in keys[3:6]], 1)
        biases = {"b": jnp.zeros(3 * WIDTH), "bn": jnp.zeros(WIDTH)}
        if self.chrono:
            times = jax.random.uniform(keys[7], (WIDTH,), minval=1.0, maxval=float(self.chrono))
            biases["b"] = biases["b"].at[WIDTH : 2 * WIDTH].set(jnp.log(times))
        return {"wi": inputs, "wh": recurrent, **biases, **init_heads(keys[6])}

    def state(self, batch):
        return jnp.zeros((batch, WIDTH))

    def cell(self, p, h, inputs):
        back = h @ p["wh"]
        r, z = jnp.split(jax.nn.sigmoid(inputs[..., : 2 * WIDTH] + back[..., : 2 * WIDTH]), 2, -1)
        n = jnp.tanh(inputs[..., 2 * WIDTH :] + r * (back[..., 2 * WIDTH :] + p["bn"]))
        return (1 - z) * n + z * h

    def sequence(self, p, h, observations, first):
        def body(h, x):
            h = self.cell(p, h * (1 - x[1])[:, None], x[0])
            return h, h

        h, states = lax.scan(body, h, (observations @ p["wi"] + p["b"], first))
        return h, heads(p, states)

    def step(self, p, h, observation, first):
        h = self.cell(p, h * (1 - first)[:, None], observation @ p["wi"] + p["b"])
        return h, heads(p, h)


class S5:
    """One layer: encoder, 64 complex pairs of states by an associative scan, a full gated linear unit, a skip."""

    def init(self, key):
        keys, states = jax.random.split(key, 8), WIDTH // 2
        steps = jax.random.uniform(keys[0], (states,), minval=math.log(1e-3), maxval=math.log(1e-1))
        rates = {"re": -0.5 * jnp.ones(states), "im": math.pi * jnp.arange(states, dtype=jnp.float32), "dt": steps}
        write = jax.random.normal(keys[1], (WIDTH, states, 2)) * (0.5 / WIDTH) ** 0.5
        read = jax.random.normal(keys[2], (states, WIDTH, 2)) * (0.5 / states) ** 0.5
        maps = {"we": lecun(keys[3], INPUTS, WIDTH), "be": jnp.zeros(WIDTH), "b": write, "c": read}
        gates = {"g1": lecun(keys[4], WIDTH, WIDTH), "g2": lecun(keys[5], WIDTH, WIDTH)}
        biases = {"b1": jnp.zeros(WIDTH), "b2": jnp.zeros(WIDTH)}
        return {**rates, **maps, **gates, **biases, "d": jax.random.normal(keys[6], (WIDTH,)), **init_heads(keys[7])}

    def state(self, batch):
        return jnp.zeros((batch, WIDTH // 2), jnp.complex64)

    def before(self, p, observations):
        x = jax.nn.leaky_relu(observations @ p["we"] + p["be"])
        rates = p["re"] + 1j * p["im"]
        decay = jnp.exp(rates * jnp.exp(p["dt"]))
        return x, decay, lax.complex(x @ p["b"][..., 0], x @ p["b"][..., 1]) * ((decay - 1) / rates)

    def after(self, p, x, states):
        y = 2 * (states.real @ p["c"][..., 0] - states.imag @ p["c"][..., 1]) + x * p["d"]
        y = jax.nn.gelu(y)
        return heads(p, x + (y @ p["g1"] + p["b1"]) * jax.nn.sigmoid(y @ p["g2"] + p["b2"]))

    def step(self, p, h, observation, first):
        x, decay, drive = self.before(p, observation)
        h = decay * (h * (1 - first)[:, None]) + drive
        return h, self.after(p, x, h)

    def sequence(self, p, h, observations, first):
        x, decay, drive = self.before(p, observations)
        decays = decay * (1 - first)[:, :, None]
        drive = drive.at[0].add(decays[0] * h)
        decays = jnp.broadcast_to(decays, drive.shape)
        _, states = lax.associative_scan(lambda a, b: (b[0] * a[0], b[0] * a[1] + b[1]), (decays, drive))
        return states[-1], self.after(p, x, states)
