"""A peer for comparison: recurrent PPO in JAX with the whole training loop compiled, as purejaxrl does it.

The work is that of ``memsuite bench training``: delayed cue with 8 cues, 64 environments, rollouts of one whole
episode,
width 128, 4 epochs of 4 minibatches along environments, full backpropagation through time. One thread. The last line of
the output is a JSON object with training steps per second of CPU time and of wall time, medians after a first call that
compiles.

    pip install jax optax
    python tests/peers/jax_ppo.py --cell gru --horizon 200

With ``--learn STEPS`` it trains for at most that many steps, and the line holds ``steps_to_90_sampled`` as in
memsuite's
``result.json``: the number of steps after which the mean of the last ten rollouts was at least 0.9, or null.
"""

import argparse
import json
import math
import os
import statistics
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import optax
from jax import lax

CUES, INPUTS, ENVS, WIDTH, EPOCHS, MINIBATCHES = 8, 9, 64, 128, 4, 4
GAMMA, LAMBDA, CLIP, ENTROPY, VALUE, NORM, RATE = 0.99, 0.95, 0.2, 0.01, 0.5, 0.5, 1e-3


# -- the task ------------------------------------------------------------------------------------------------------


def reset(key, batch):
    return {"t": jnp.zeros((batch,), jnp.int32), "cue": jax.random.randint(key, (batch,), 0, CUES)}


def observe(env, horizon):
    cue = jax.nn.one_hot(env["cue"], CUES) * (env["t"] == 0)[:, None]
    return jnp.concatenate([cue, (env["t"] == horizon - 1).astype(jnp.float32)[:, None]], 1)


def step(key, env, action, horizon):
    asked = env["t"] == horizon - 1
    reward = (asked & (action == env["cue"])).astype(jnp.float32)
    fresh = jax.random.randint(key, env["cue"].shape, 0, CUES)
    env = {"t": jnp.where(asked, 0, env["t"] + 1), "cue": jnp.where(asked, fresh, env["cue"])}
    return env, observe(env, horizon), reward, asked.astype(jnp.float32)


# -- the models: init, state, one step, a sequence -----------------------------------------------------------------


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


# -- PPO -----------------------------------------------------------------------------------------------------------


def loss(net, p, batch):
    h, observations, first, actions, old, advantages, returns = batch
    _, (logits, values) = net.sequence(p, h, observations, first)
    log_p = jax.nn.log_softmax(logits)
    ratio = jnp.exp(jnp.take_along_axis(log_p, actions[..., None], -1)[..., 0] - old)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    policy = -jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantages).mean()
    entropy = -(jnp.exp(log_p) * log_p).sum(-1).mean()
    return policy + VALUE * 0.5 * ((values - returns) ** 2).mean() - ENTROPY * entropy


def make(net, horizon, discount=GAMMA, trace=LAMBDA):
    """Return ``init(key)`` and ``iterate(run, _)``, one iteration of rollout, advantages and epochs."""
    optimizer = optax.chain(optax.clip_by_global_norm(NORM), optax.adam(RATE, eps=1e-5))

    def init(key):
        one, two = jax.random.split(key)
        p, env = net.init(one), reset(two, ENVS)
        run = {"p": p, "opt": optimizer.init(p), "env": env, "obs": observe(env, horizon)}
        return run | {"first": jnp.ones((ENVS,)), "h": net.state(ENVS), "key": key}

    def act(p, carry, _):
        env, observation, first, h, key = carry
        key, for_action, for_step = jax.random.split(key, 3)
        h, (logits, value) = net.step(p, h, observation, first)
        action = jax.random.categorical(for_action, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        env, following, reward, ended = step(for_step, env, action, horizon)
        return (env, following, ended, h, key), (observation, first, action, log_prob, value, reward, ended)

    def advantage(carry, x):
        gae, following = carry
        value, reward, ended = x
        gae = reward + discount * following * (1 - ended) - value + discount * trace * (1 - ended) * gae
        return (gae, value), gae

    def iterate(run, _):
        h0 = run["h"]
        carry = (run["env"], run["obs"], run["first"], run["h"], run["key"])
        carry, rollout = lax.scan(lambda c, x: act(run["p"], c, x), carry, None, horizon)
        env, observation, first, h, key = carry
        observations, firsts, actions, log_probs, values, rewards, ended = rollout
        _, (_, last) = net.step(run["p"], h, observation, first)
        _, advantages = lax.scan(advantage, (jnp.zeros(ENVS), last), (values, rewards, ended), reverse=True)
        rows = (observations, firsts, actions, log_probs, advantages, advantages + values)

        def minibatch(learner, columns):
            p, opt = learner
            gradient = jax.grad(lambda q: loss(net, q, (h0[columns], *(x[:, columns] for x in rows))))(p)
            updates, opt = optimizer.update(gradient, opt, p)
            return (optax.apply_updates(p, updates), opt), None

        def epoch(carry, _):
            learner, key = carry
            key, shuffle = jax.random.split(key)
            order = jax.random.permutation(shuffle, ENVS).reshape(MINIBATCHES, -1)
            return (lax.scan(minibatch, learner, order)[0], key), None

        ((p, opt), key), _ = lax.scan(epoch, ((run["p"], run["opt"]), key), None, EPOCHS)
        run = {"p": p, "opt": opt, "env": env, "obs": observation, "first": first, "h": h, "key": key}
        return run, rewards.sum() / ended.sum()

    return init, iterate


def time_training(train, run, steps, repeats):
    """Return the median rates of ``repeats`` calls, after one that compiles."""
    run, _ = jax.block_until_ready(train(run))
    cpus, walls = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run, _ = jax.block_until_ready(train(run))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "steps_per_cpu_second": steps / statistics.median(cpus),
        "steps_per_second": steps / statistics.median(walls),
    }


def learn(train, run, horizon, most):
    """Train until the mean of ten rollouts is 0.9, for ``most`` steps at most."""
    said, begun = [], time.process_time()
    while (len(said) + 1) * horizon * ENVS <= most:
        run, successes = jax.block_until_ready(train(run))
        for success in successes.tolist():
            said.append(success)
            if len(said) >= 10 and sum(said[-10:]) >= 9.0:
                found = {"steps_to_90_sampled": len(said) * horizon * ENVS}
                return found | {"success": sum(said[-10:]) / 10, "cpu_seconds": time.process_time() - begun}
    last = sum(said[-10:]) / 10
    return {"steps_to_90_sampled": None, "success": last, "cpu_seconds": time.process_time() - begun}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=["gru", "s5"], default="gru")
    parser.add_argument("--horizon", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3, help="counted repeats of about 1000 steps a row")
    parser.add_argument(
        "--learn", type=int, default=0, help="train for so many steps at most, and say when it is learnt"
    )
    parser.add_argument("--chrono", action="store_true", help="the GRU's update gates hold up to the horizon")
    parser.add_argument("--discount", type=float, default=GAMMA)
    parser.add_argument("--gae_lambda", type=float, default=LAMBDA)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    net = S5() if options.cell == "s5" else GRU(options.horizon - 1 if options.chrono else 0)
    init, iterate = make(net, options.horizon, options.discount, options.gae_lambda)
    iterations = max(1, 1000 // options.horizon)
    run = jax.jit(init)(jax.random.PRNGKey(options.seed))
    train = jax.jit(lambda state: lax.scan(iterate, state, None, iterations))
    if options.learn:
        found = learn(train, run, options.horizon, options.learn) | vars(options)
    else:
        found = time_training(train, run, iterations * options.horizon * ENVS, options.repeats)
    print(json.dumps({"peer": f"jax {options.cell}", "jax": jax.__version__, "horizon": options.horizon, **found}))


if __name__ == "__main__":
    main()
