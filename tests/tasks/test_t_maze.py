"""The T-maze: its anchors in every form, its rewards as published, and walks that are taken at once."""

import itertools

import pytest
import torch

from memsuite.errors import UsageError
from memsuite.metrics import wilson_interval
from memsuite.tasks import make_task
from memsuite.tasks.base import Task
from memsuite.tasks.mazes.t_maze import DOWN, LEFT, RIGHT, UP
from memsuite.tasks.policies import oracle, play, random_policy, window

FORMS = [
    {"variant": variant, "layout": layout, "corridor": corridor}
    for variant, layout, corridor in itertools.product(("passive", "active"), ("ni", "bakker"), ("walked", "carried"))
]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))


def maze(horizon=7, num_envs=2, seed=0, **form):
    task = make_task("t_maze", "easy", horizon=horizon, **form)
    return task, task.reset(num_envs, torch.Generator().manual_seed(seed))


def taken(task, actions):
    """Take the same actions in every environment; return the steps."""
    return [task.step(torch.full((task._num_envs,), action)) for action in actions]


@every_form
def test_policies_reach_what_is_declared(form):
    task = make_task("t_maze", "easy", horizon=7, **form)
    policies = [(random_policy(task), task.anchors().random), (oracle(task), 1.0)]
    policies += [(window(task, steps), task.window_anchor(steps)) for steps in range(1, 8)]
    for seed, (policy, declared) in enumerate(policies):
        correct, scored = play(task, policy, 4000, torch.Generator().manual_seed(seed))
        assert scored.sum(0).eq(1).all()
        low, high = wilson_interval(float(correct.sum()) / 4000, 4000, 0.9999)
        assert low - 1e-9 <= declared <= high + 1e-9


@every_form
def test_no_window_without_the_cue_tells_the_side(form):
    """Whoever walks as the best policy does sees the same before both turns, except for the cue itself."""
    task, now = maze(num_envs=64, **form)
    side, policy, rows = task._side, oracle(task), []
    for step in range(task.horizon):
        rows.append(now.observation)
        now = task.step(policy(torch.stack(rows), step, torch.Generator()))
    cue = task.away
    for step, row in enumerate(rows):
        assert (row.unique(dim=0).shape[0] == 2) == (step == cue)
    assert (rows[cue][side > 0] != rows[cue][side < 0][:1]).any()


def test_rewards_of_ni_punish_who_falls_behind():
    task, _ = maze(6, layout="ni")
    walked = taken(task, [RIGHT, RIGHT, LEFT, RIGHT, RIGHT, UP])
    assert [float(one.reward[0]) for one in walked] == pytest.approx([0, 0, -0.2, -0.2, -0.2, 0])
    straight = taken(task, [RIGHT] * 5)
    assert all((one.reward == 0).all() for one in straight)
    side, last = task._side, task.step(torch.full((2,), UP))
    assert torch.equal(last.reward, (side > 0).float())
    assert torch.equal(last.correct, side > 0)


def test_rewards_of_bakker_punish_who_stands_still():
    task, _ = maze(6, layout="bakker")
    walked = taken(task, [LEFT, UP, RIGHT, LEFT, RIGHT, DOWN])
    assert [round(float(one.reward[0]), 4) for one in walked] == [-0.1, -0.1, 0, 0, 0, -0.1]
    taken(task, [RIGHT] * 5)
    side, last = task._side, task.step(torch.full((2,), DOWN))
    assert torch.equal(last.reward, torch.where(side < 0, 4.0, -0.1))


def test_the_symbols_of_bakker():
    task, now = maze(4, num_envs=16, layout="bakker")
    assert {tuple(row) for row in now.observation.tolist()} == {(0, 1, 1), (1, 1, 0)}
    seen = taken(task, [RIGHT] * 3)
    assert [one.observation[0].tolist() for one in seen] == [[1, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_the_cue_of_the_active_maze_must_be_fetched_and_is_shown_once():
    task, now = maze(9, num_envs=8, variant="active")
    assert (now.observation == 0).all()
    side = task._side
    fetched, *rest = taken(task, [LEFT, RIGHT, LEFT, RIGHT])
    assert torch.equal(fetched.observation[:, 1], side.float())
    assert all((one.observation == 0).all() for one in rest)


def test_an_agent_that_wastes_a_step_misses_the_junction():
    task, _ = maze(7)
    last = taken(task, [LEFT, RIGHT, RIGHT, RIGHT, RIGHT, RIGHT, UP])[-1]
    assert not last.correct.any()
    assert last.scored.all()


def test_a_carried_agent_arrives_whatever_it_does():
    task, _ = maze(7, num_envs=64, corridor="carried")
    side = task._side
    assert torch.equal(taken(task, [LEFT, UP, DOWN, LEFT, UP, LEFT, UP])[-1].correct, side > 0)


@pytest.mark.parametrize("form", FORMS[:4], ids=lambda form: "-".join(form.values()))
def test_steps_taken_at_once_are_those_taken_one_by_one(form):
    (one, now), (other, _) = maze(30, 50, **form), maze(30, 50, **form)
    actions = torch.randint(4, (one.known_steps, 50), generator=torch.Generator().manual_seed(3))
    actions[:, ::2] = RIGHT
    ahead = one.look_ahead(now, len(actions))
    rewards, after = one.walk(actions)
    base_rewards, base_after = Task.walk(other, actions)
    torch.testing.assert_close(rewards, base_rewards)
    for name in ("observation", "is_first", "terminated", "scored", "correct"):
        assert torch.equal(getattr(after, name), getattr(base_after, name)), name
    again, start = maze(30, 50, **form)
    torch.testing.assert_close(ahead, Task.look_ahead(again, start, len(actions)), rtol=0, atol=0)
    last = torch.full((50,), UP)
    assert torch.equal(one.step(last).correct, other.step(last).correct)


def test_only_the_passive_maze_says_what_no_action_changes():
    assert [maze(7, **form)[0].known_steps for form in FORMS] == [6] * 4 + [0] * 4
    assert maze(7, corridor="walked")[0].passive_steps == 0
    assert maze(7, corridor="carried")[0].passive_steps == 6


def test_a_wrong_word_is_told_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean: active"):
        maze(variant="actve")
    with pytest.raises(UsageError, match="did you mean: bakker"):
        maze(layout="baker")
    with pytest.raises(UsageError, match="shortest is 4"):
        maze(3, variant="active")
