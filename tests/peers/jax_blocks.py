"""The block models in JAX, with the equations, sizes and parameters of memsuite's at depth 1.

Each is written in the form that was the fastest of those tried on a CPU; the class says which. They keep the interface
of jax_parts.py.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax_parts import INPUTS, WIDTH, heads, init_heads, lecun, rms_norm

HEADS = 4
SIZE = WIDTH // HEADS


def short_conv(x, weight, bias, buffer, first):
    """Convolve ``x`` ``[T, B, E]`` with its last four steps and no others than the episode's, and apply silu.

    ``weight`` is ``[4, E]``, the present step last; ``buffer``, ``[B, 3, E]``, has the inputs before. Return the
    output and the next buffer.
    """
    lags, steps = len(weight) - 1, len(x)
    whole = jnp.concatenate([buffer.swapaxes(0, 1), x])
    keep = jnp.concatenate([jnp.ones_like(first, shape=(lags, *first.shape[1:])), 1 - first])[..., None]
    y, valid = bias + x * weight[-1], 1.0
    for lag in range(1, lags + 1):
        valid = valid * keep[lags - lag + 1 : lags - lag + 1 + steps]
        y = y + whole[lags - lag : lags - lag + steps] * valid * weight[-1 - lag]
    rows, valid = [], 1.0
    for age in range(1, lags + 1):
        rows.append(whole[-age] * valid)
        valid = valid * keep[-age]
    return jax.nn.silu(y), jnp.stack(rows[::-1], 1)


class Block:
    """An embedding, a layer with a norm before it, and a gated perceptron where ``inner`` is not 0."""

    inner = 2 * WIDTH

    def init(self, key):
        keys = jax.random.split(key, 5)
        p = {"embed": lecun(keys[0], INPUTS, WIDTH), "norm": jnp.ones(WIDTH), **init_heads(keys[1])}
        if self.inner:
            p |= {"up": lecun(keys[2], WIDTH, 2 * self.inner), "down": lecun(keys[3], self.inner, WIDTH)}
            p |= {"mlp_norm": jnp.ones(WIDTH)}
        return p | self.layer_init(keys[4])

    def sequence(self, p, h, observations, first):
        u = observations @ p["embed"]
        v = rms_norm(u, p["norm"])
        h, y = self.layer(p, h, v + p["shift"] if "shift" in p else v, first)
        u = u + y
        if self.inner:
            gate, up = jnp.split(rms_norm(u, p["mlp_norm"]) @ p["up"], 2, -1)
            u = u + (jax.nn.silu(gate) * up) @ p["down"]
        return h, heads(p, rms_norm(u))

    def step(self, p, h, observation, first):
        h, (logits, values) = self.sequence(p, h, observation[None], first[None])
        return h, (logits[0], values[0])


class Mamba(Block):
    """256 channels of 16 states (Gu & Dao 2023), read by a loop over time that makes the exponentials as it goes.

    The backward pass computes the states again, 8 steps at a time. An associative scan, which writes all decays and
    states to memory seven times, was slower.
    """

    inner, channels, states, rank, again = 0, 2 * WIDTH, 16, 8, 8

    def layer_init(self, key):
        keys = jax.random.split(key, 6)
        steps = jnp.exp(jax.random.uniform(keys[0], (self.channels,), minval=math.log(1e-3), maxval=math.log(1e-1)))
        rates = jnp.log(jnp.tile(jnp.arange(1.0, self.states + 1)[:, None], (1, self.channels)))
        bound = self.rank**-0.5
        return {
            "in": lecun(keys[1], WIDTH, 2 * self.channels),
            "conv": jax.random.uniform(keys[2], (4, self.channels), minval=-0.5, maxval=0.5),
            "conv_b": jnp.zeros(self.channels),
            "x": lecun(keys[3], self.channels, self.rank + 2 * self.states),
            "dt": jax.random.uniform(keys[4], (self.rank, self.channels), minval=-bound, maxval=bound),
            "dt_b": steps + jnp.log(-jnp.expm1(-steps)),
            "a_log": rates,
            "d": jnp.ones(self.channels),
            "out": lecun(keys[5], self.channels, WIDTH),
            "shift": jnp.zeros(WIDTH),
        }

    def state(self, batch):
        return {
            "conv": jnp.zeros((batch, 3, self.channels)),
            "ssm": jnp.zeros((batch, self.states, self.channels)),
        }

    def layer(self, p, h, v, first):
        u, z = jnp.split(v @ p["in"], 2, -1)
        buffer = h["conv"] * (1 - first[0])[:, None, None]
        u, buffer = short_conv(u, p["conv"], p["conv_b"], buffer, first)
        delta, b, c = jnp.split(u @ p["x"], [self.rank, self.rank + self.states], -1)
        dt = jax.nn.softplus(delta @ p["dt"] + p["dt_b"])
        rates = -jnp.exp(p["a_log"])

        def body(state, x):
            dt, u, b, c, first = x
            state = state * (1 - first)[:, None, None]
            state = jnp.exp(dt[:, None] * rates) * state + (dt * u)[:, None] * b[:, :, None]
            return state, (state * c[:, :, None]).sum(1)

        ssm, y = scan_in_blocks(body, h["ssm"], (dt, u, b, c, first), self.again)
        return {"conv": buffer, "ssm": ssm}, ((y + p["d"] * u) * jax.nn.silu(z)) @ p["out"]


def scan_in_blocks(body, carry, xs, size):
    """Scan over time; the backward pass keeps the carry at the beginning of every ``size`` steps alone."""
    steps = len(xs[0])
    if size < 2 or steps <= size or steps % size:
        return lax.scan(body, carry, xs)
    xs = jax.tree.map(lambda x: x.reshape(steps // size, size, *x.shape[1:]), xs)
    carry, ys = lax.scan(jax.checkpoint(lambda c, x: lax.scan(body, c, x)), carry, xs)
    return carry, ys.reshape(steps, *ys.shape[2:])


class MatrixMemory(Block):
    """Heads with a matrix state that decays; with ``beta``, what is held under a key is overwritten.

    A sequence is read in chunks (Yang et al. 2024, arXiv 2406.06484): products within a chunk, all chunks at once, and
    a loop over the chunks for the state.
    """

    chunk = 25

    def recur(self, matrix, q, k, v, log_decay, beta, first):
        """Read ``[T, B, H, d]``; return the state after it, ``[B, H, d, d]``, and the output."""
        steps = len(q)
        size = max(n for n in range(1, self.chunk + 1) if steps % n == 0)

        def chunked(x):  # [T, B, H, ..] -> [chunks, B, H, size, ..]
            x = x.reshape(steps // size, size, *x.shape[1:])
            return jnp.moveaxis(x, 1, 3)

        q, k, v, g = (chunked(x) for x in (q, k, v, log_decay))
        episode = jnp.cumsum(chunked(jnp.broadcast_to(first[..., None], log_decay.shape)), -1)
        g = jnp.cumsum(g, -1)
        within = jnp.tril(jnp.ones((size, size), bool)) & (episode[..., :, None] == episode[..., None, :])
        decay = jnp.exp(jnp.where(within, g[..., :, None] - g[..., None, :], -jnp.inf))
        carried = jnp.where(episode == 0, jnp.exp(g), 0.0)[..., None]
        to_end = jnp.where(episode == episode[..., -1:], jnp.exp(g[..., -1:] - g), 0.0)[..., None]
        scores = decay * (q @ k.swapaxes(-1, -2))
        erased = None
        if beta is not None:
            b = chunked(beta)[..., None]
            solved = inverse(b * jnp.tril(decay * (k @ k.swapaxes(-1, -2)), -1))
            v, erased = jnp.split(solved @ jnp.concatenate([b * v, b * carried * k], -1), 2, -1)

        def body(matrix, x):
            scores, q, k, v, kept, erased = x
            v = v if erased is None else v - erased @ matrix
            return kept * matrix + k.swapaxes(-1, -2) @ v, scores @ v + q @ matrix

        kept = carried[..., -1:, :]
        matrix, y = lax.scan(body, matrix, (scores, carried * q, to_end * k, v, kept, erased))
        return matrix, jnp.moveaxis(y, 3, 1).reshape(steps, *y.shape[1:3], -1)

    def matrix(self, batch):
        return jnp.zeros((batch, HEADS, SIZE, SIZE))


def inverse(lower):
    """Return ``(I + lower)^-1`` of strictly lower triangular matrices: ``(I - L)(I + L^2)(I + L^4)..``.

    XLA's triangular solve has a gradient on the CPU that is fifty times slower than these products.
    """
    size = lower.shape[-1]
    found, power = jnp.eye(size) - lower, lower
    for _ in range(math.ceil(math.log2(size)) - 1):
        power = power @ power
        found = found + found @ power
    return found


def split_heads(x):
    return x.reshape(*x.shape[:-1], HEADS, SIZE)


def joined(x):
    return x.reshape(*x.shape[:-2], WIDTH)


class GatedDeltaNet(MatrixMemory):
    """Four heads of 32 x 32 (Yang, Kautz & Hatamizadeh 2024), convolutions of four steps, a norm and a gate a head."""

    def layer_init(self, key):
        keys = jax.random.split(key, 8)
        rates = jnp.exp(jax.random.uniform(keys[0], (HEADS,), minval=math.log(1e-3), maxval=math.log(1e-1)))
        return {
            "qkv": lecun(keys[1], WIDTH, 3 * WIDTH),
            "conv": jax.random.uniform(keys[2], (4, 3 * WIDTH), minval=-0.5, maxval=0.5),
            "query_b": jax.random.uniform(keys[3], (WIDTH,), minval=-1.0, maxval=1.0),
            "decay": lecun(keys[4], WIDTH, HEADS),
            "decay_b": rates + jnp.log(-jnp.expm1(-rates)),
            "log_scale": jnp.zeros(HEADS),
            "write": lecun(keys[5], WIDTH, HEADS),
            "gate": lecun(keys[6], WIDTH, WIDTH),
            "gate_b": jnp.ones(WIDTH),
            "head_norm": jnp.ones(WIDTH),
            "out": lecun(keys[7], WIDTH, WIDTH),
        }

    def state(self, batch):
        return {"conv": jnp.zeros((batch, 3, 3 * WIDTH)), "matrix": self.matrix(batch)}

    def layer(self, p, h, v, first):
        buffer = h["conv"] * (1 - first[0])[:, None, None]
        bias = jnp.concatenate([p["query_b"], jnp.zeros(2 * WIDTH)])
        mixed, buffer = short_conv(v @ p["qkv"], p["conv"], bias, buffer, first)
        query, key, value = (split_heads(part) for part in jnp.split(mixed, 3, -1))
        query, key = (x * lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-6) for x in (query, key))
        log_decay = -jnp.exp(p["log_scale"]) * jax.nn.softplus(v @ p["decay"] + p["decay_b"])
        beta = jax.nn.sigmoid(v @ p["write"])
        matrix, y = self.recur(h["matrix"], query, key, value, log_decay, beta, first)
        gated = joined(rms_norm(y)) * p["head_norm"] * jax.nn.silu(v @ p["gate"] + p["gate_b"])
        return {"conv": buffer, "matrix": matrix}, gated @ p["out"]


class LinearAttention(MatrixMemory):
    """Four heads of 32 x 32 (Katharopoulos et al. 2020), with a norm a head in place of the divisor."""

    def layer_init(self, key):
        one, two = jax.random.split(key)
        maps = {"qkv": lecun(one, WIDTH, 3 * WIDTH), "out": lecun(two, WIDTH, WIDTH)}
        return maps | {"head_norm": jnp.ones(WIDTH)}

    def state(self, batch):
        return self.matrix(batch)

    def layer(self, p, h, v, first):
        query, key, value = (split_heads(part) for part in jnp.split(v @ p["qkv"], 3, -1))
        query, key = jax.nn.elu(query) + 1, jax.nn.elu(key) + 1
        matrix, y = self.recur(h, query, key, value, jnp.zeros(query.shape[:-1]), None, first)
        return matrix, (joined(rms_norm(y)) * p["head_norm"]) @ p["out"]


class Transformer(Block):
    """Four heads of attention to the whole episode, rotary positions, a norm before the output's map.

    A sequence is one episode from its beginning, as every rollout of the work is, and is read by
    ``jax.nn.dot_product_attention``. A step writes its key and value into caches as long as an episode.
    """

    def __init__(self, horizon):
        self.horizon = horizon

    def layer_init(self, key):
        one, two = jax.random.split(key)
        maps = {"qkv": lecun(one, WIDTH, 3 * WIDTH), "out": lecun(two, WIDTH, WIDTH)}
        return maps | {"norm_out": jnp.ones(WIDTH)}

    def state(self, batch):
        cache = jnp.zeros((batch, HEADS, self.horizon, SIZE))
        return {"keys": cache, "values": cache, "position": jnp.zeros((batch,), jnp.int32)}

    def made(self, p, v, positions):
        """Return queries, keys and values of ``[T, B, D]`` at positions ``[T, B]``."""
        half = SIZE // 2
        angles = positions[..., None, None] * 10_000.0 ** (-jnp.arange(half) / half)
        cos, sin = jnp.cos(angles), jnp.sin(angles)

        def turned(x):
            one, two = jnp.split(x, 2, -1)
            return jnp.concatenate([one * cos - two * sin, one * sin + two * cos], -1)

        query, key, value = (split_heads(part) for part in jnp.split(v @ p["qkv"], 3, -1))
        return turned(query), turned(key), value

    def read(self, p, y):
        return rms_norm(joined(y), p["norm_out"]) @ p["out"]

    def layer(self, p, h, v, first):
        if len(v) == 1:
            return self.layer_step(p, h, v, first)
        positions = jnp.broadcast_to(jnp.arange(len(v))[:, None], first.shape)
        query, key, value = (x.swapaxes(0, 1) for x in self.made(p, v, positions))
        y = jax.nn.dot_product_attention(query, key, value, is_causal=True).swapaxes(0, 1)
        return h, self.read(p, y)

    def layer_step(self, p, h, v, first):
        # All rows stand at one position, since an episode is a rollout: one slice of the caches is written in place.
        position = jnp.where(first[0] > 0, 0, h["position"])
        query, key, value = (x[0, :, :, None] for x in self.made(p, v, position[None]))
        keys = lax.dynamic_update_slice_in_dim(h["keys"], key, position[0], 2)
        values = lax.dynamic_update_slice_in_dim(h["values"], value, position[0], 2)
        scores = query @ keys.swapaxes(-1, -2) / math.sqrt(SIZE)
        seen = jnp.arange(self.horizon) <= position[:, None, None, None]
        y = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), -1) @ values
        return {"keys": keys, "values": values, "position": position + 1}, self.read(p, y[None, :, :, 0])
