"""Key to door: what opens the door, what is rewarded on the way, and steps that are taken at once."""

import pytest
import torch

from memsuite.errors import UsageError
from memsuite.tasks import make_task
from memsuite.tasks.base import Task
from memsuite.tasks.second.key_to_door import APPLE, KEY_STEPS


def begun(horizon=12, num_envs=40, seed=0, **arguments):
    task = make_task("key_to_door", "easy", horizon=horizon, **arguments)
    return task, task.reset(num_envs, torch.Generator().manual_seed(seed))


def acted(task, actions):
    """Take the same action in every environment at each step, the colour for None; return the steps."""
    found = []
    for action in actions:
        chosen = task._colour if action is None else torch.full_like(task._colour, action)
        found.append(task.step(chosen))
    return found


@pytest.mark.parametrize("at", range(KEY_STEPS + 1))
def test_only_who_picks_up_the_key_in_time_opens_the_door(at):
    task, _ = begun()
    wait = task.eat
    last = acted(task, [task.pick if step == at else wait for step in range(11)] + [None])[-1]
    assert last.scored.all()
    assert last.correct.all() == last.correct.any() == (at < KEY_STEPS)
    assert torch.equal(last.reward, last.correct.float())


def test_a_wrong_colour_does_not_open_the_door():
    task, _ = begun()
    colour = task._colour
    last = acted(task, [task.pick] * 11 + [3])[-1]
    assert torch.equal(last.correct, colour == 3)


def test_an_apple_is_rewarded_at_its_step_and_only_if_eaten():
    task, now = begun()
    seen, rewards = [], []
    for _step in range(11):
        seen.append(now.observation[:, task.channel("apple")][:, 0])
        actions = torch.where(torch.arange(40) % 2 == 0, task.eat, task.pick)
        now = task.step(actions)
        rewards.append(now.reward)
    eaten = torch.stack(seen)
    eaten[:, 1::2] = 0
    assert torch.equal(torch.stack(rewards), APPLE * eaten)
    assert torch.stack(seen).sum(0).eq(2).all()


def test_steps_taken_at_once_are_those_taken_one_by_one():
    (one, now), (other, _), (again, start) = begun(30), begun(30), begun(30)
    actions = torch.randint(10, (one.known_steps, 40), generator=torch.Generator().manual_seed(3))
    ahead = one.look_ahead(now, len(actions))
    assert torch.equal(ahead, Task.look_ahead(again, start, len(actions)))
    rewards, after = one.walk(actions)
    base_rewards, base_after = Task.walk(other, actions)
    assert torch.equal(rewards, base_rewards)
    for name in ("observation", "is_first", "terminated", "scored", "correct"):
        assert torch.equal(getattr(after, name), getattr(base_after, name)), name
    last = torch.full((40,), 5)
    assert torch.equal(one.step(last).correct, other.step(last).correct)


def test_too_many_apples_are_refused():
    with pytest.raises(UsageError, match="shortest is 14"):
        begun(12, num_apples=10)
