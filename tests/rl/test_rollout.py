"""The rollout: both paths agree, memory is carried and reset, truncation bootstraps from its own observation."""

import pytest
import torch
from crossed import crossed

from memsuite.controllers import CONTROLLERS, Controller, make_controller
from memsuite.ops import log_prob
from memsuite.rl import ActorCritic, begin, collect, sample
from memsuite.rl.outcome import finished_returns
from memsuite.rl.rollout import steps_at_once
from memsuite.rl.saved.resume import usual_dtype
from memsuite.runs.config import DIFFICULTIES
from memsuite.tasks import SECOND, SUITE, TASKS, ScriptedTask, make_task
from memsuite.types import Trajectory

# An integrator driven by thousands of distractors saturates: its gradient falls below the smallest number there is.
SATURATED = {("pseudo_mamba", "multi_cue_delay", "extreme")}
# A window of thousands of steps takes ten seconds a case, and sees all of it by its definition.
WINDOWS = ("transformer", "gtrxl", "fox", "hyena")
# A rollout reads every scripted task in the same way, and key_to_door as the t_maze; they have tests of their own.
SCRIPTED = [name for name in SUITE if issubclass(TASKS[name], ScriptedTask)]
PAIRS = crossed([SCRIPTED, ["distractor_nav", "t_maze"]], CONTROLLERS)
every_pair = pytest.mark.parametrize(("task", "controller"), PAIRS)
ASKED = [
    pytest.param(*pair.values, tier, marks=[pytest.mark.slow] if far else pair.marks)
    for pair in PAIRS
    for tier in DIFFICULTIES
    for far in [pair.values[1] in WINDOWS and tier in ("hard", "extreme")]
]
ASKED += [
    (task, controller, "easy") for task in SECOND for controller in ("gru", "lru", "gated_deltanet", "transformer")
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_model(task, controller: str = "gru", **arguments) -> ActorCritic:
    memory = make_controller(controller, input_dim=task.observation_dim, hidden_dim=8, **arguments)
    model = ActorCritic(memory, task.num_actions)
    torch.nn.init.normal_(model.actor.weight, std=0.5)  # a policy far from uniform, so that errors are visible
    return model.double()


def make_double(task):
    """Let the task show float64 observations, so that the two paths cannot differ by rounding."""
    if isinstance(task, ScriptedTask):
        draw = task.script

        def script(num_envs, source):
            drawn = draw(num_envs, source)
            return type(drawn)(drawn.observations.double(), drawn.targets, drawn.scored)

        task.script = script
    else:  # of its steps, those that no action changes are read as a sequence
        cls = type(task)
        task.__class__ = type(cls.__name__, (cls,), {"_observe": lambda self: cls._observe(self).double()})
    return task


def fields_of(trajectory: Trajectory) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(trajectory).items() if isinstance(value, torch.Tensor)}


@every_pair
@pytest.mark.parametrize("length", ["whole", "shorter", "longer", "one"])
def test_what_is_read_as_a_sequence_equals_stepping(task, controller, length):
    ends = []
    for by_stepping in (False, True):
        env = make_double(make_task(task, "easy"))
        model = make_model(env, controller)
        torch.manual_seed(3)
        torch.nn.init.normal_(model.actor.weight, std=0.5)
        for parameter in model.controller.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        steps = {"whole": env.horizon, "shorter": env.horizon // 3, "longer": env.horizon * 2 + 5, "one": 1}[length]
        actor, actions = begin(env, model, 3, generator(1)), generator(2)
        rollouts = []
        for _ in range(4 if length in ("shorter", "one") else 2):
            trajectory, actor = collect(env, model, actor, steps, actions, by_stepping=by_stepping)
            rollouts.append(fields_of(trajectory))
        ends.append((rollouts, actor.state))
    for script, stepped in zip(ends[0][0], ends[1][0], strict=True):
        for name in script:
            torch.testing.assert_close(script[name].double(), stepped[name].double(), rtol=0, atol=1e-10, msg=name)


@every_pair
@pytest.mark.parametrize("train_mode", [True, False])
def test_ratio_is_one_before_the_first_update(task, controller, train_mode):
    env = make_double(make_task(task, "easy"))
    scripted = isinstance(env, ScriptedTask)  # the other task steps in 32 bits; two layers double the rounding
    model = make_model(env, controller, **({} if scripted else {"depth": 1})).train(train_mode)
    if not scripted:
        model = model.float()
    within = 1e-5 if scripted else 2e-5
    actor, actions = begin(env, model, 4, generator(1)), generator(2)
    for _ in range(3):  # the length does not divide the horizon, so resets occur inside rollouts
        trajectory, actor = collect(env, model, actor, env.horizon // 2 + 3, actions)
        logits, values, _ = model(trajectory.observations, trajectory.initial_state, trajectory.is_first)
        log_probs = log_prob(logits, trajectory.actions)
        torch.testing.assert_close(
            (log_probs - trajectory.log_probs).exp(), torch.ones_like(log_probs), rtol=0, atol=within
        )
        torch.testing.assert_close(values, trajectory.values, rtol=0, atol=within)


@every_pair
def test_a_greedy_rollout_can_be_reproduced(task, controller):
    env = make_double(make_task(task, "easy"))
    model = make_model(env, controller).to(torch.float64 if isinstance(env, ScriptedTask) else torch.float32)
    actor = begin(env, model, 4, generator(1))
    trajectory, _ = collect(env, model, actor, env.horizon + 3, None)
    logits, _, _ = model(trajectory.observations, trajectory.initial_state, trajectory.is_first)
    assert torch.equal(logits.argmax(-1), trajectory.actions)


@pytest.mark.parametrize("length", [1, 5, 30])
def test_stepping_carries_resets_and_bootstraps(countdown, length):
    model = make_model(countdown).float()
    actor, actions = begin(countdown, model, 5, generator(1)), generator(2)
    previous_ended = torch.ones(5, dtype=torch.bool)
    for _ in range(3):
        started = actor
        trajectory, actor = collect(countdown, model, actor, length, actions)
        ended = trajectory.terminated | trajectory.truncated
        # An episode begins exactly where the one before ended, and its first clock value confirms this.
        assert torch.equal(trajectory.is_first, torch.cat([previous_ended.unsqueeze(0), ended[:-1]]))
        assert torch.equal(trajectory.is_first, trajectory.observations[..., 1] == 0)
        previous_ended = ended[-1]
        assert torch.equal(trajectory.next_values[trajectory.terminated], torch.zeros(int(trajectory.terminated.sum())))
        assert_bootstraps(countdown, model, trajectory, started)


def assert_bootstraps(task, model, trajectory: Trajectory, started) -> None:
    """Recompute the value after each step that does not end an episode, from the memory of that episode."""
    steps, batch = trajectory.actions.shape
    state = started.state
    for t in range(steps):
        _, _, state = model.step(trajectory.observations[t], state, trajectory.is_first[t])
        following = trajectory.observations[t].clone()
        following[:, 1] += 1  # the successor within the same episode
        _, values, _ = model.step(following, state, torch.zeros(batch, dtype=torch.bool))
        going_on = ~trajectory.terminated[t]
        torch.testing.assert_close(trajectory.next_values[t][going_on], values[going_on], rtol=0, atol=1e-6)


def test_time_is_never_interleaved():
    """Integer-coded observations stay contiguous wherever the rollout is cut."""
    env = make_task("delayed_cue", "easy")
    model = make_model(env).float()
    actor = begin(env, model, 3, generator(1))
    one, _ = collect(env, model, actor, 3 * env.horizon, generator(2))
    env = make_task("delayed_cue", "easy")
    actor, parts = begin(env, model, 3, generator(1)), []
    for _ in range(6):
        part, actor = collect(env, model, actor, env.horizon // 2, generator(2))
        parts.append(part)
    assert torch.equal(one.observations, torch.cat([part.observations for part in parts]))
    assert torch.equal(one.is_first, torch.cat([part.is_first for part in parts]))


def test_sampling_follows_the_probabilities():
    logits = torch.tensor([0.0, 1.0, -2.0, 0.5])
    uniform = torch.rand(200_000, generator=generator())
    drawn = torch.bincount(sample(logits.expand(200_000, 4), uniform), minlength=4) / 200_000
    torch.testing.assert_close(drawn, logits.softmax(0), rtol=0, atol=5e-3)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-24])
def test_sampling_stays_inside_at_the_edges(uniform):
    logits = torch.tensor([-200.0, 0.0, 0.0, -200.0])
    action = sample(logits.unsqueeze(0), torch.tensor([uniform]))
    assert action.item() in (1, 2)


@pytest.mark.parametrize(("task", "controller", "difficulty"), ASKED)
def test_the_loss_at_the_last_scored_step_reaches_what_it_asks_for(task, controller, difficulty):
    env = make_task(task, difficulty)
    model = ActorCritic(
        make_controller(
            controller, input_dim=env.observation_dim, hidden_dim=32, memory_horizon=env.steps_to_remember()
        ),
        env.num_actions,
    )
    torch.nn.init.normal_(model.actor.weight, std=0.5)
    trajectory, _ = collect(env, model, begin(env, model, 2, generator(1)), env.horizon, generator(2))
    model.double()
    observations = trajectory.observations.double().requires_grad_()
    logits, _, _ = model(observations, model.init_state(2), trajectory.is_first)
    log_probs = logits.log_softmax(-1).gather(-1, trajectory.actions.unsqueeze(-1)).squeeze(-1)
    last = trajectory.scored.nonzero()[:, 0].max()
    (gradient,) = torch.autograd.grad(log_probs[last].sum(), observations)
    begins = last - env.steps_to_remember()
    shown = trajectory.observations[begins:].ne(0).flatten(1).any(1)
    begins += shown.int().argmax()  # the first step with an item
    reaches = gradient[begins].abs().max() > 0
    assert bool(reaches) == ((controller, task, difficulty) not in SATURATED)
    assert gradient[last + 1 :].abs().sum() == 0


class Shy(Controller):
    """A user's controller with only the three methods: a leaky sum."""

    def __init__(self, input_dim: int, hidden_dim: int = 4) -> None:
        super().__init__()
        self.feature_dim = hidden_dim
        self.lift = torch.nn.Linear(input_dim, hidden_dim)

    def init_state(self, batch_size, device=None):
        return {"sum": torch.zeros(batch_size, self.feature_dim, device=device)}

    def forward_step(self, x_BD, state):
        total = 0.9 * state["sum"] + self.lift(x_BD)
        return total, {"sum": total}

    def reset_mask(self, state, is_first_B):
        return {"sum": state["sum"].masked_fill(is_first_B.unsqueeze(1), 0)}


def test_a_users_controller_needs_three_methods():
    env = make_task("delayed_cue", "easy")
    model = ActorCritic(make_controller(f"{__name__}.Shy", input_dim=env.observation_dim), env.num_actions)
    trajectory, _ = collect(env, model, begin(env, model, 2, generator()), 2 * env.horizon + 1, generator())
    assert trajectory.actions.shape == (2 * env.horizon + 1, 2)
    assert model.controller.state_floats() == 4


def test_a_return_that_is_not_finite_does_not_outlast_its_episode():
    ended = torch.tensor([[False, True], [True, False], [False, False]])
    rewards = torch.tensor([[1.0, torch.inf], [torch.inf, 2.0], [3.0, 4.0]])
    finished, running = finished_returns(rewards, ended, torch.tensor([torch.inf, torch.nan]))
    assert not finished.isfinite()
    assert running.tolist() == [3.0, 6.0]
    finished, running = finished_returns(rewards, torch.zeros_like(ended), torch.tensor([5.0, 6.0]))
    assert (float(finished), running.tolist()) == (0.0, [torch.inf, torch.inf])


@pytest.mark.parametrize("critic", ["observation", "memory", "none"])
def test_rewards_and_values_stay_in_single_precision_under_autocast(critic):
    """In bfloat16 the return of 301 rewards of 1.003 was 300."""
    task = make_task("distractor_nav", "easy")
    memory = make_controller("gru", input_dim=task.observation_dim, hidden_dim=8)
    model = ActorCritic(memory, task.num_actions, task.observation_dim, critic)
    with torch.autocast("cpu", torch.bfloat16):
        actor = begin(task, model, 4, generator())
        trajectory, _ = collect(task, model, actor, 9, generator())
    assert {trajectory.rewards.dtype, trajectory.values.dtype, trajectory.next_values.dtype} == {torch.float32}


def test_random_numbers_are_of_32_bits_whatever_is_usual():
    """A uniform number of 64 bits may be so near to 1 that half a step of 32 bits more is beyond it."""
    task = make_task("delayed_cue", "easy")
    model = make_model(task)
    with usual_dtype(torch.float64):
        actor = begin(task, model, 4, generator())
        trajectory, _ = collect(task, model.double(), actor, 9, generator())
    assert trajectory.draws.dtype == torch.float32


def test_a_gpu_reads_more_steps_at_once():
    """At 4,096 environments a block that suits a CPU's cache would be eight steps, each with the launches of many."""
    assert steps_at_once(torch.zeros(1, 4096, dtype=torch.bool)) == 8
    assert steps_at_once(torch.zeros(1, 4096, dtype=torch.bool, device="meta")) >= 64
