"""Draws that share a script: the gradient equals that of as many environments that were each given the script."""

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig, begin, stream
from memsuite.rl.groups import group_advantages, returns_to_go
from memsuite.rl.policy.loss import ppo_formula
from memsuite.rl.rollout import collect
from memsuite.rl.shared import draw
from memsuite.rl.shared_walk import share

SCRIPTS, DRAWS = 3, 4
GROUPS = ("leave_one_out", "group_mean", "group_std")
SMALL = {"hidden_dim": 8}
MEMORYLESS = "memsuite.controllers.memoryless.Memoryless"
LOSS = {"clip": 0.2, "value_clip": None, "value_coefficient": 0.5, "entropy_weighting": "advantages"}


def module_of(task="n_back", controller="gru", ppo=None, **more):
    ppo = {"draws": DRAWS, "advantage": "group_mean", "epochs": 1, "minibatches": 1, **(ppo or {})}
    settings = {"task": task, "difficulty": "easy", "horizon": 12, "num_envs": SCRIPTS * DRAWS, "seed": 3}
    settings |= {"controller": controller, "controller_args": SMALL, "ppo": PPOConfig(**ppo)}
    module = MemoryPPO(**{**settings, **more}).double()
    with torch.no_grad():  # heads far from uniform, so that draws differ in their probability
        module.model.actor.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return module


def rollout_of(module, steps, actor=None, scale=None, begun=None):
    task = begun or module.task.fresh()
    actor = actor or begin(task, module.model, SCRIPTS, stream(5, "task"))
    given = module.model, actor, module.ppo, module.config.objective, scale, stream(6, "actions")
    return task, share(steps, task, *given)


def gradients(module, loss):
    parameters = [p for p in module.model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def largest_difference(one, other):
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("advantage", ["gae", *GROUPS])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_draws_have_the_gradient_of_as_many_environments(controller, advantage):
    """Over one and a half episodes, from a state that an episode has filled, with the end of an episode in between."""
    module = module_of(controller=controller, ppo={"advantage": advantage})
    model, draws = module.model, DRAWS
    task, opening = rollout_of(module, 6)
    for _ in opening.losses(torch.arange(SCRIPTS), []):
        pass
    actor = opening.end()
    _, rollout = rollout_of(module, 18, actor, begun=task)
    drawn = []
    ((_, terms),) = list(rollout.losses(torch.arange(SCRIPTS), drawn))
    shared = gradients(module, terms.total)

    block, state = rollout.block, torch.utils._pytree.tree_map(lambda x: x.repeat_interleave(draws, 0), actor.state)
    wide = [x.repeat_interleave(draws, 1) for x in (block.observations, block.is_first, block.targets, block.scored)]
    logits, values, _ = model(wide[0], state, wide[1])
    scored = wide[3]
    actions = torch.zeros_like(wide[2])
    order = block.scored.repeat_interleave(draws, 1)
    actions[order] = drawn[0].actions.flatten()
    rewards = (actions == wide[2]).double()
    if advantage == "gae":
        advantages = rewards - values.detach()
    else:
        grouped = rewards.view(len(rewards), SCRIPTS, draws)
        advantages = group_advantages(grouped, advantage).flatten(1)
    with torch.no_grad():
        before = log_softmax(logits, -1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    pick = [x[scored] for x in (logits, values, actions, before, values.detach(), advantages, rewards)]
    if advantage != "gae":
        pick[1], pick[6] = pick[1].detach(), pick[1].detach()
    apart = ppo_formula(*pick, entropy_coefficient=module.ppo.entropy_coefficient, **LOSS)
    assert float((terms.terms - apart.terms).abs().max()) < 1e-12
    assert largest_difference(shared, gradients(module, apart.total)) < 1e-12
    assert max(float(g.abs().max()) for g in shared) > 1e-6


@pytest.mark.parametrize("advantage", GROUPS)
@pytest.mark.parametrize("controller", ["gru", "mamba", "transformer", "gated_deltanet"])
def test_environments_that_part_have_the_gradient_of_environments_apart(controller, advantage):
    module = module_of("distractor_nav", controller, {"advantage": advantage})
    _, rollout = rollout_of(module, 12)
    drawn = []
    ((_, terms),) = list(rollout.losses(torch.arange(SCRIPTS), drawn))
    shared = gradients(module, terms.total)

    # Every environment separately: it reads the whole opening itself, step by step, and repeats the draw's actions.
    again = module.task.fresh()
    begin(again, module.model, SCRIPTS, stream(5, "task"))
    rows = torch.arange(SCRIPTS).repeat_interleave(DRAWS)
    fork, walk = again.fork(rows), module.task.horizon - module.task.passive_steps
    now, state, logits, rewards = fork._show(), module.model.init_state(len(rows)), [], []
    for t in range(module.task.horizon):
        found, _, state = module.model.step(now.observation, state, now.is_first)
        late = t - module.task.passive_steps
        actions = torch.zeros_like(rows)
        if late >= 0:
            actions = drawn[0].actions.view(walk, -1)[late]
            logits.append(found)
        now = fork.step(actions)
        if late >= 0:
            rewards.append(now.reward.double())
    returns = returns_to_go(torch.stack(rewards), module.ppo.discount)
    advantages = group_advantages(returns.view(walk, SCRIPTS, DRAWS), advantage).flatten()
    chosen = drawn[0].actions.flatten()
    wide = torch.stack(logits).flatten(0, 1)
    before = log_softmax(wide, -1).detach().gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    zero = torch.zeros_like(advantages)
    coefficient = module.ppo.entropy_coefficient
    apart = ppo_formula(wide, zero, chosen, before, zero, advantages, zero, entropy_coefficient=coefficient, **LOSS)
    assert float((rollout.counts[2] - torch.stack(rewards).sum()).abs()) == 0
    assert largest_difference(shared, gradients(module, apart.total)) < 1e-12


@pytest.mark.parametrize("advantage", GROUPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_that_are_alike_have_no_advantage(advantage, dtype):
    """The mean of equal numbers is another number for most of them, by a rounding that a division made large."""
    for draws in range(2, 65):
        for value in (0.1, 0.2, 0.3, 0.729, 0.9, -0.1, 3.9, 1e-30, 1e30):
            alike = torch.full((1, draws), value, dtype=dtype)
            alike[0, 0] *= 1 + torch.finfo(dtype).eps  # as sums in another order give it
            assert float(group_advantages(alike, advantage).abs().max()) <= 4 * torch.finfo(dtype).eps * abs(value)


@pytest.mark.parametrize("advantage", ["group_mean", "group_std"])
def test_the_size_of_the_rewards_does_not_matter(advantage):
    returns = torch.tensor([[0.0, 1, 1, 0, 0.5], [-3, -1, -1, 0, 2]])
    expected = group_advantages(returns, advantage)
    for scale in (1e-20, 0.1, 0.9, 7.0, 1e20):
        assert torch.allclose(group_advantages(scale * returns, advantage), expected, atol=1e-6)
    assert torch.allclose(group_advantages(returns + 10, advantage), expected, atol=1e-5)


def test_a_curriculum_counts_the_steps_that_draws_made():
    """A rollout length of the whole task stands for whole episodes, also of a shorter one."""
    module = module_of("t_maze", ppo={"rollout_length": 12})
    module.train_on({"horizon": 6})
    assert module.course.per_iteration == 6 * SCRIPTS * DRAWS


@pytest.mark.parametrize(("steps", "known"), [(12, True), (24, True), (5, False), (18, False)])
def test_the_mean_return_is_of_whole_episodes(steps, known):
    _, rollout = rollout_of(module_of(), steps)
    for _ in rollout.losses(torch.arange(SCRIPTS), []):
        pass
    right, scored, mean_return = rollout.counts[0], rollout.counts[1], float(rollout.outcome()[1])
    assert (mean_return == mean_return) == known
    if known:
        per_episode = float(scored) / (SCRIPTS * DRAWS * steps / 12)
        assert mean_return == pytest.approx(float(right / scored) * per_episode)


def test_a_group_of_all_actions_has_the_gradient_of_cross_entropy():
    """With a uniform policy, drawing every action once gives the distribution itself."""
    logits = torch.zeros(5, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 5, 1, 1])
    actions = torch.arange(6).expand(5, 6)
    advantages = group_advantages((actions == targets.unsqueeze(1)).double(), "group_mean")
    loss = -(log_softmax(logits, -1).gather(-1, actions) * advantages).mean(-1).mean()
    (ours,) = torch.autograd.grad(loss, logits)
    (theirs,) = torch.autograd.grad(cross_entropy(logits, targets), logits)
    assert torch.allclose(ours, theirs, atol=1e-15)


@pytest.mark.parametrize("draws", [2, 3, 8])
@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_group_mean_has_the_gradient_of_the_truncated_log_likelihood(p, draws):
    """The expectation over all outcomes of K draws of a reward that is 1 with probability p."""
    expected = 0.0
    for right in range(draws + 1):
        rewards = torch.tensor([1.0] * right + [0.0] * (draws - right), dtype=torch.float64)
        slopes = (rewards - p) / (p * (1 - p))  # d log p(outcome) / dp
        chance = torch.distributions.Binomial(draws, torch.tensor(p, dtype=torch.float64)).log_prob(
            torch.tensor(float(right), dtype=torch.float64)
        )
        expected += float(chance.exp() * (group_advantages(rewards, "group_mean") * slopes).mean())
    assert expected == pytest.approx(sum((1 - p) ** (k - 1) for k in range(1, draws)), rel=1e-9)


@pytest.mark.parametrize("kind", GROUPS)
def test_nothing_is_worth_anything_where_all_draws_are_alike(kind):
    assert (group_advantages(torch.full((3, 4), 0.7), kind).abs() < 1e-6).all()


def test_group_mean_does_not_change_with_the_scale_and_the_zero_of_rewards():
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.0], [-3.0, -1.0, -2.0, -2.5]], dtype=torch.float64)
    assert torch.allclose(
        group_advantages(rewards, "group_mean"), group_advantages(7 * rewards - 100, "group_mean"), atol=1e-12
    )


def test_supervision_is_the_cross_entropy_of_the_right_actions():
    module = module_of(objective="supervised", ppo={"draws": 1, "advantage": "gae"}, num_envs=SCRIPTS)
    assert module.model.critic is None
    _, rollout = rollout_of(module, 12)
    ((_, terms),) = list(rollout.losses(torch.arange(SCRIPTS), []))
    block = rollout.block
    logits, _, _ = module.model(block.observations, module.model.init_state(SCRIPTS), block.is_first)
    expected = cross_entropy(logits[block.scored], block.targets[block.scored])
    assert float(terms.terms[0]) == pytest.approx(expected.item(), abs=1e-12)
    assert largest_difference(gradients(module, terms.total), gradients(module, expected)) < 1e-12
    sure = log_softmax(logits[block.scored], -1).exp().gather(-1, block.targets[block.scored].unsqueeze(-1)).mean()
    assert float(rollout.outcome()[0]) == pytest.approx(sure.item())


def test_windows_cut_the_gradient_and_nothing_else():
    found = []
    for window in (None, 5):
        ppo = {"draws": 1, "advantage": "gae", "bptt_steps": window}
        module = module_of("delayed_cue", objective="supervised", ppo=ppo, num_envs=SCRIPTS)
        losses = [terms for _, terms in rollout_of(module, 12)[1].losses(torch.arange(SCRIPTS), [])]
        parts = zip(*(gradients(module, one.total) for one in losses), strict=True)
        found.append((len(losses), sum(float(one.terms[0]) for one in losses), [sum(part) for part in parts]))
    (one, loss, whole), (three, same, cut) = found
    assert (one, three) == (1, 3)
    assert loss == pytest.approx(same, abs=1e-12)
    assert largest_difference(whole, cut) > 1e-6


def test_windows_do_not_change_the_scale_of_the_advantages():
    """Without a memory there is nothing to cut, so windows change nothing at all."""
    found = []
    for window in (None, 3):
        ppo = {"bptt_steps": window, "normalise_advantages": True}
        module = module_of(controller=MEMORYLESS, controller_args={}, ppo=ppo)
        _, rollout = rollout_of(module, 12, scale=module.advantage_scale)
        losses = [terms.total for _, terms in rollout.losses(torch.arange(SCRIPTS), [])]
        found.append((gradients(module, sum(losses)), module.advantage_scale.mean_square, rollout.counts))
        assert module.advantage_scale.gathered > 0
    (whole, square, counts), (cut, same, counted) = found
    assert largest_difference(whole, cut) < 1e-14
    assert float(square) == pytest.approx(float(same), rel=1e-12)
    assert torch.equal(counts, counted)


@pytest.mark.parametrize("objective", ["ppo", "supervised"])
def test_the_return_of_a_rollout_does_not_grow_with_the_passes_over_it(objective):
    """delayed_cue has one decision an episode, so its return is its success."""
    module = module_of("delayed_cue", objective=objective)
    _, rollout = rollout_of(module, 12)
    drawn = []
    for _ in range(4):
        list(rollout.losses(torch.arange(SCRIPTS), drawn))
    success, returned, _ = rollout.outcome().tolist()
    assert returned == pytest.approx(success)
    assert float(rollout.counts[1]) == SCRIPTS * DRAWS


def test_minibatches_are_scripts_whole_and_the_memory_is_put_together_again():
    one, two = module_of(), module_of()
    actors = []
    for module, parts in ((one, 1), (two, 3)):
        _, rollout = rollout_of(module, 7)
        for columns in torch.arange(SCRIPTS).tensor_split(parts):
            list(rollout.losses(columns, []))
        actors.append(rollout.end())
    first, second = (torch.utils._pytree.tree_leaves(actor.state)[0] for actor in actors)
    assert torch.allclose(first, second, atol=1e-14)
    assert first.shape[0] == SCRIPTS
    assert first.abs().max() > 0


def test_a_second_pass_learns_from_the_same_draws():
    module = module_of()
    _, rollout = rollout_of(module, 12)
    drawn = []
    first = [float(found.terms[0]) for _, found in rollout.losses(torch.arange(SCRIPTS), drawn)]
    counts = rollout.counts.clone()
    second = [float(found.terms[0]) for _, found in rollout.losses(torch.arange(SCRIPTS), drawn)]
    assert first == second
    assert torch.equal(counts, rollout.counts)


def test_a_second_walk_goes_through_the_same_steps():
    module = module_of("distractor_nav")
    _, rollout = rollout_of(module, 12)
    drawn = []
    first = [float(found.terms[0]) for _, found in rollout.losses(torch.arange(SCRIPTS), drawn)]
    second = [float(found.terms[0]) for _, found in rollout.losses(torch.arange(SCRIPTS), drawn)]
    assert first == pytest.approx(second, abs=1e-12)


def test_draws_follow_the_policy():
    log_p = log_softmax(torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, -50.0]]), -1)
    counts = torch.stack([draw(log_p, 20_000, stream(1, "x")).eq(action).double().mean(1) for action in range(3)], 1)
    assert torch.allclose(counts, log_p.exp().double(), atol=0.012)
    assert counts[1, 2] == 0


def test_forks_part_only_by_their_actions():
    task = module_of("distractor_nav").task
    begin(task, module_of("distractor_nav").model, 2, stream(1, "task"))
    before = task._generator.get_state()
    fork = task.fork(torch.tensor([0, 0, 1, 1]))
    for t in range(task.horizon):
        now = fork.step(torch.tensor([1, 2, 1, 1]))
        if t < task.passive_steps - 1:
            assert torch.equal(now.observation[0], now.observation[1])
    assert torch.equal(task._generator.get_state(), before)  # nothing of the task's own stream was used
    assert now.correct[2] == now.correct[3]


def test_evaluation_is_that_of_any_other_run():
    shared, plain = module_of(), module_of(ppo={"draws": 1, "advantage": "gae", "critic": "observation"})
    plain.model.load_state_dict(shared.model.state_dict(), strict=False)
    assert shared.evaluate(32, "test") == plain.evaluate(32, "test")


def test_a_walk_collected_one_by_one_earns_what_shared_ones_do():
    """The success of sampled actions is the same by both paths, within four standard errors."""
    module = module_of("distractor_nav", num_envs=400 * 4)
    task = module.task.fresh()
    actor = begin(task, module.model, 400, stream(9, "task"))
    given = module.model, actor, module.ppo, "ppo", None, stream(6, "actions")
    rollout = share(12, task, *given)
    list(rollout.losses(torch.arange(400), []))
    other = module.task.fresh()
    actor = begin(other, module.model, 1600, stream(10, "task"))
    trajectory, _ = collect(other, module.model, actor, 12, stream(11, "actions"))
    one, two = float(rollout.outcome()[0]), float(trajectory.correct.sum() / trajectory.scored.sum())
    assert one == pytest.approx(two, abs=4 * (2 * 0.25 / 800) ** 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 10}, "num_envs must be a multiple"),
        ({"ppo": {"draws": 1}}, "the least is 2"),
        ({"ppo": {"minibatches": 4}}, "at most num_envs = 12 / 4 draws"),
        ({"ppo": {"advantage": "group_men"}}, "did you mean: group_mean"),
        ({"ppo": {"advantage": "gae", "discount": 0.9}}, "discount 0"),
        ({"ppo": {"consequences": "tested"}}, "needs ppo.advantage gae"),
        ({"ppo": {"discount": 0.9}}, "ppo.discount is 0.9: draws of n_back are compared by the reward of one decision"),
        ({"ppo": {"value_clip": 0.2}}, "ppo.value_clip is 0.2: with draws it must be null"),
        (
            {"task": "t_maze", "task_args": {"variant": "active"}, "ppo": {"bptt_steps": 3}},
            "ppo.bptt_steps is 3: draws of t_maze part 12 steps before the end",
        ),
        ({"task": "distractor_nav", "ppo": {"rollout_length": 5}}, "need whole episodes, null"),
        ({"task": "gym:CartPole-v1", "horizon": None}, "cannot begin with one script"),
        ({"task": "gym:CartPole-v1", "horizon": None, "objective": "supervised"}, "which action is right"),
        ({"objective": "supervise"}, "did you mean: supervised"),
    ],
)
def test_what_cannot_be_shared_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        module_of(**settings)


@pytest.mark.parametrize("objective", ["ppo", "supervised"])
@pytest.mark.parametrize("bptt_steps", [None, 5])
@pytest.mark.parametrize("layout", ["ni", "bakker"])
def test_decisions_from_one_reading_are_those_of_stepping(layout, bptt_steps, objective):
    """Where no action changes the observations, the draws and the gradient are those of a walk step by step."""
    found = []
    for at_once in (True, False):
        ppo = {"discount": 0.9, "bptt_steps": bptt_steps if at_once else None}
        module = module_of("t_maze", ppo=ppo, task_args={"layout": layout}, objective=objective)
        begun = module.task.fresh()
        if not at_once:
            begun.open_steps = 0
        _, rollout = rollout_of(module, 12, begun=begun)
        ((_, loss),) = rollout.losses(torch.arange(SCRIPTS), [])
        found.append([*gradients(module, loss.total), rollout.counts])
    assert float(found[0][0].abs().max()) > 0
    if bptt_steps is None:
        assert largest_difference(*found) < 1e-9
    else:
        assert torch.equal(found[0][-1], found[1][-1])


def test_a_second_pass_over_one_reading_learns_the_same():
    module = module_of("t_maze", ppo={"discount": 0.9})
    _, rollout = rollout_of(module, 12)
    drawn = []
    first = [float(found.terms[0]) for _, found in rollout.losses(torch.arange(SCRIPTS), drawn)]
    second = [float(found.terms[0]) for _, found in rollout.losses(torch.arange(SCRIPTS), drawn)]
    assert first == pytest.approx(second, abs=1e-12)
