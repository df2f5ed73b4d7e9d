"""A peer for comparison: recurrent PPO in JAX with the whole training loop compiled, as purejaxrl does it.

The work is that of ``memsuite bench training``: delayed cue with 8 cues, 64 environments, rollouts of one whole
episode, width 128, 4 epochs of 4 minibatches along environments, full backpropagation through time. One thread. The
last line of the output is a JSON object with training steps per second of CPU time and of wall time, medians after a
first call that compiles; ``update_steps_per_cpu_second`` would be the rate if the rollouts took no time.

    pip install jax optax memax equinox
    python tests/peers/jax_ppo.py --cell gru --horizon 200

The cells are those of jax_parts.py and jax_blocks.py, and memax's (memax_models.py) as ``memax_s6``. With ``--learn
STEPS`` it trains for at most that many steps, and the line holds ``steps_to_90_sampled`` as in memsuite's
``result.json``: the number of steps after which the mean of the last ten rollouts was at least 0.9, or null. With
``--limit`` it also ends after so many CPU-seconds. ``cpu_seconds_to_90`` is the CPU time until the 64 episodes of one
rollout were at 0.9. No ``cpu_seconds`` count the compilation.
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
from jax_blocks import GatedDeltaNet, LinearAttention, Mamba, Transformer
from jax_parts import CUES, GRU, S5

ENVS = 64
CLIP, ENTROPY, VALUE, NORM = 0.2, 0.01, 0.5, 0.5
CELLS = {
    "gru": lambda options: GRU(options.horizon - 1 if options.chrono else 0),
    "s5": lambda options: S5(),
    "mamba": lambda options: Mamba(),
    "gated_deltanet": lambda options: GatedDeltaNet(),
    "linear_attention": lambda options: LinearAttention(),
    "transformer": lambda options: Transformer(options.horizon),
}


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


class Training:
    """An iteration is ``update(run, *rollout(run))``; all three are compiled functions of ``run``.

    Args:
        net: a model with the interface of jax_parts.py.
        options: horizon, rate, epochs, minibatches, discount and gae_lambda.
    """

    def __init__(self, net, options):
        self.net, self.options, self.horizon = net, options, options.horizon
        self.optimizer = optax.chain(optax.clip_by_global_norm(NORM), optax.adam(options.rate, eps=1e-5))

    def init(self, key):
        one, two = jax.random.split(key)
        p, env = self.net.init(one), reset(two, ENVS)
        run = {"p": p, "opt": self.optimizer.init(p), "env": env, "obs": observe(env, self.horizon)}
        return run | {"first": jnp.ones((ENVS,)), "h": self.net.state(ENVS), "key": key}

    def act(self, p, carry, _):
        env, observation, first, h, key = carry
        key, for_action, for_step = jax.random.split(key, 3)
        h, (logits, value) = self.net.step(p, h, observation, first)
        action = jax.random.categorical(for_action, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        env, following, reward, ended = step(for_step, env, action, self.horizon)
        return (env, following, ended, h, key), (observation, first, action, log_prob, value, reward, ended)

    def rollout(self, run):
        carry = tuple(run[name] for name in ("env", "obs", "first", "h", "key"))
        return lax.scan(lambda c, x: self.act(run["p"], c, x), carry, None, self.horizon)

    def advantage(self, carry, x):
        gae, following = carry
        value, reward, ended = x
        discount, trace = self.options.discount, self.options.gae_lambda
        gae = reward + discount * following * (1 - ended) - value + discount * trace * (1 - ended) * gae
        return (gae, value), gae

    def update(self, run, carry, rollout):
        env, observation, first, h, key = carry
        observations, firsts, actions, log_probs, values, rewards, ended = rollout
        _, (_, last) = self.net.step(run["p"], h, observation, first)
        _, advantages = lax.scan(self.advantage, (jnp.zeros(ENVS), last), (values, rewards, ended), reverse=True)
        rows = (observations, firsts, actions, log_probs, advantages, advantages + values)

        def minibatch(learner, columns):
            p, opt = learner
            h0 = jax.tree.map(lambda x: x[columns], run["h"])
            gradient = jax.grad(lambda q: loss(self.net, q, (h0, *(x[:, columns] for x in rows))))(p)
            updates, opt = self.optimizer.update(gradient, opt, p)
            return (optax.apply_updates(p, updates), opt), None

        def epoch(carry, _):
            learner, key = carry
            key, shuffle = jax.random.split(key)
            order = jax.random.permutation(shuffle, ENVS).reshape(self.options.minibatches, -1)
            return (lax.scan(minibatch, learner, order)[0], key), None

        ((p, opt), key), _ = lax.scan(epoch, ((run["p"], run["opt"]), key), None, self.options.epochs)
        run = {"p": p, "opt": opt, "env": env, "obs": observation, "first": first, "h": h, "key": key}
        return run, rewards.sum() / ended.sum()

    def iterate(self, run, _):
        return self.update(run, *self.rollout(run))


def seconds(work):
    """Return the CPU and the wall seconds of a call, and its result."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(work())
    return time.process_time() - cpu, time.perf_counter() - wall, found


def time_training(training, train, run, iterations, repeats):
    """Return the median rates of ``repeats`` calls, after one that compiles."""
    run, _ = jax.block_until_ready(train(run))
    rollout = jax.jit(training.rollout).lower(run).compile()
    rollouts = statistics.median(seconds(lambda: rollout(run))[0] for _ in range(repeats))
    cpus, walls = [], []
    for _ in range(repeats):
        cpu, wall, (run, _) = seconds(lambda: train(run))  # noqa: B023
        cpus.append(cpu)
        walls.append(wall)
    steps, cpu = iterations * training.horizon * ENVS, statistics.median(cpus)
    return {
        "steps_per_cpu_second": steps / cpu,
        "steps_per_second": steps / statistics.median(walls),
        "update_steps_per_cpu_second": steps / max(cpu - iterations * rollouts, 1e-9),
        "parameters": sum(x.size for x in jax.tree.leaves(run["p"])),
    }


def learn(train, run, horizon, most, limit):
    """Train until the mean of ten rollouts is 0.9, for at most ``most`` steps and ``limit`` CPU-seconds."""
    begun = time.process_time()
    train = train.lower(run).compile()
    compiled, said, steps, first = time.process_time(), [], None, None
    while steps is None and (len(said) + 1) * horizon * ENVS <= most and time.process_time() - compiled < limit:
        run, successes = jax.block_until_ready(train(run))
        for success in successes.tolist():
            said.append(success)
            if first is None and success >= 0.9:
                first = time.process_time() - compiled
            if len(said) >= 10 and sum(said[-10:]) >= 9.0:
                steps = len(said) * horizon * ENVS
                break
    ten = sum(said[-10:]) / len(said[-10:])
    found = {"steps_to_90_sampled": steps, "success": ten, "env_steps": len(said) * horizon * ENVS}
    cpu = {"cpu_seconds_to_90": first, "cpu_seconds": time.process_time() - compiled}
    return found | cpu | {"compile_cpu_seconds": compiled - begun}


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="gru", help=f"{', '.join(CELLS)}, or memax_ and one of memax's")
    parser.add_argument("--horizon", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3, help="counted repeats of about --span steps a row")
    parser.add_argument("--span", type=int, default=1000)
    parser.add_argument("--learn", type=int, default=0, help="train for so many steps at most, and say when learnt")
    parser.add_argument("--limit", type=float, default=math.inf, help="with --learn: for so many CPU-seconds at most")
    parser.add_argument("--chrono", action="store_true", help="the GRU's update gates hold up to the horizon")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--discount", type=float, default=0.99)
    parser.add_argument("--gae_lambda", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    options = read_options()
    if options.cell.startswith("memax_"):
        from memax_models import Memax

        net = Memax(options.cell.removeprefix("memax_"), options.horizon)
    else:
        net = CELLS[options.cell](options)
    training, iterations = Training(net, options), max(1, options.span // options.horizon)
    run = jax.jit(training.init)(jax.random.PRNGKey(options.seed))
    train = jax.jit(lambda state: lax.scan(training.iterate, state, None, iterations))
    if options.learn:
        found = vars(options) | learn(train, run, options.horizon, options.learn, options.limit)
    else:
        found = time_training(training, train, run, iterations, options.repeats)
    print(json.dumps({"peer": f"jax {options.cell}", "jax": jax.__version__, "horizon": options.horizon, **found}))


if __name__ == "__main__":
    main()
