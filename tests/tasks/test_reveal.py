"""Twins that show the answer: nothing else differs, and whoever reads it is right."""

import pytest
import torch

from memsuite.errors import UsageError
from memsuite.tasks import TASKS, ScriptedTask, Task, make_task
from memsuite.tasks.policies import memoryless, oracle, play, random_policy

every_task = pytest.mark.parametrize("name", TASKS)


@every_task
def test_the_twin_shows_what_the_task_shows_and_the_answer(name):
    task, twin = make_task(name, "easy"), make_task(name, "easy", reveal=True)
    width = task.observation_dim
    assert twin.observation_dim == width + task.num_actions
    assert (twin.horizon, twin.steps_to_remember()) == (task.horizon, task.steps_to_remember())
    now, shown = (one.reset(32, torch.Generator().manual_seed(1)) for one in (task, twin))
    for _ in range(task.horizon + 3):
        assert torch.equal(now.observation, shown.observation[:, :width])
        actions = torch.randint(task.num_actions, (32,), generator=torch.Generator().manual_seed(3))
        now, shown = task.step(actions), twin.step(actions)
        assert torch.equal(now.reward, shown.reward)
        assert torch.equal(now.correct, shown.correct)


@every_task
def test_no_memory_is_needed_in_the_twin(name):
    twin = make_task(name, "easy", reveal=True)
    for policy in (memoryless(twin), oracle(twin)):
        correct, scored = play(twin, policy, 64, torch.Generator().manual_seed(0))
        assert correct.sum() == scored.sum() > 0
    correct, scored = play(twin, random_policy(twin), 2000, torch.Generator().manual_seed(0))
    assert float(correct.sum() / scored.sum()) == pytest.approx(twin.anchors().random, abs=0.04)


@pytest.mark.parametrize("name", ["delayed_cue", "distractor_nav", "key_to_door"])
def test_a_saved_twin_goes_on(name):
    twin = make_task(name, "easy", reveal=True)
    twin.reset(4, torch.Generator().manual_seed(1))
    for _ in range(twin.horizon - 3):
        now = twin.step(torch.zeros(4, dtype=torch.int64))
    again = make_task(name, "easy", reveal=True)
    assert torch.equal(again.load_state_dict(twin.state_dict(), torch.Generator()).observation, now.observation)
    for _ in range(5):
        one, other = (each.step(torch.ones(4, dtype=torch.int64)) for each in (twin, again))
        assert torch.equal(one.observation, other.observation)


def test_copies_of_a_stepped_twin_know_where_they_are():
    twin = make_task("distractor_nav", "easy", reveal=True)
    now = twin.reset(3, torch.Generator().manual_seed(1))
    ahead = twin.look_ahead(now, twin.known_steps)
    assert not ahead[:, :, twin.channel("answer")].any()
    twin.walk(torch.zeros(twin.known_steps - 1, 3, dtype=torch.int64))
    copies = twin.fork(torch.tensor([0, 0, 2]))
    shown = copies.step(torch.zeros(3, dtype=torch.int64)).observation
    assert torch.equal(shown[0], shown[1])
    assert shown[:, twin.channel("answer")].any(-1).all()


def test_what_cannot_be_revealed_is_refused():
    with pytest.raises(UsageError, match="reveal is 1; it must be true or false"):
        make_task("delayed_cue", "easy", reveal=1)
    with pytest.raises(UsageError, match="did you mean: reveal"):
        make_task("delayed_cue", "easy", revael=True)
    assert isinstance(make_task("delayed_cue", "easy", reveal=False), ScriptedTask)
    assert isinstance(make_task("t_maze", "easy", reveal=True), Task)
