"""Properties of every task: fixed sizes, determined by generator and arguments, the same by script and by steps."""

from __future__ import annotations

import inspect

import pytest
import torch

from memsuite.errors import UsageError
from memsuite.rl import stream
from memsuite.rl.saved.resume import usual_dtype
from memsuite.runs.config import DIFFICULTIES
from memsuite.tasks import (
    PRESETS,
    SECOND,
    SUITE,
    TASKS,
    ScriptedTask,
    Task,
    get_benchmark_suite,
    get_task_config,
    make_task,
)
from memsuite.tasks.policies import oracle, random_policy

SCRIPTED = [name for name, cls in TASKS.items() if issubclass(cls, ScriptedTask)]
SHORTEST = {
    "delayed_cue": 2,
    "copy_memory": 21,
    "assoc_recall": 9,
    "n_back": 3,
    "multi_cue_delay": 8,
    "permuted_copy": 16,
    "pattern_binding": 4,
    "distractor_nav": 8,
    "t_maze": 2,
    "rewrite": 9,
    "state_tracking": 14,
    "multi_recall": 16,
    "selective_copy": 12,
    "count_recall": 14,
    "graph_recall": 6,
    "growing_list": 18,
    "key_to_door": 6,
}
CHANGED = {"jitter": 3, "rewrite": 0.5, "noise": 0.5, "gap": 7, "budget": 6, "vocabulary": 20, "keys": 30, "values": 9}
CHANGED |= {"most": 9, "group": "s5", "fuzzy": 3, "rounds": 2}
CHANGED |= {"variant": "active", "layout": "bakker", "corridor": "carried"}


def observed(task: Task, num_envs: int = 64, seed: int = 0, play=oracle) -> list[torch.Tensor]:
    """All observations, scores and rewards of one episode, under the oracle's actions or another policy's."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(task, ScriptedTask):
        script = task.script(num_envs, generator)
        return [script.observations, script.targets, script.scored]
    policy, now, rows = play(task), task.reset(num_envs, generator), []
    for step in range(task.horizon):
        rows.append(now.observation)
        now = task.step(policy(torch.stack(rows), step, generator))
    return [torch.stack(rows), now.correct, now.scored]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_sizes_are_the_same_at_every_difficulty(name):
    tasks = [make_task(name, difficulty) for difficulty in DIFFICULTIES]
    assert len({(task.observation_dim, task.num_actions, tuple(task.layout.items())) for task in tasks}) == 1
    assert sum(tasks[0].layout.values()) == tasks[0].observation_dim


@pytest.mark.parametrize(("name", "difficulty"), PRESETS)
def test_preset_has_its_horizon_and_declares_itself(name, difficulty):
    config = get_task_config(name, difficulty)
    task = config.make()
    assert task.horizon == config.horizon
    assert 0 < task.steps_to_remember() < task.horizon
    assert task.bits_to_remember() > 0
    assert 0 < task.anchors().memoryless < config.target_success < task.anchors().oracle == 1.0
    assert config.as_dict()["horizon"] == task.horizon


@pytest.mark.parametrize("name", TASKS)
def test_episodes_do_not_depend_on_the_usual_kind_of_number(name):
    """In double precision `torch.rand` draws other numbers, and an evaluation in single met other episodes."""
    found = []
    for dtype in (torch.float32, torch.float64):
        task = make_task(name, "easy")
        with usual_dtype(dtype):
            first, still = task.reset(4, stream(3, "task")), torch.zeros(4, dtype=torch.int64)
            later = [task.step(still).observation for _ in range(task.horizon + 3)]
        found.append(torch.stack([first.observation, *later]).double())
    assert torch.allclose(*found, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SCRIPTED)
def test_script_has_the_documented_shapes(name):
    task = make_task(name, "easy")
    script = task.script(5, torch.Generator().manual_seed(0))
    assert script.observations.shape == (task.horizon, 5, task.observation_dim)
    assert script.observations.dtype == torch.float32
    assert script.targets.shape == script.scored.shape == (task.horizon, 5)
    assert (script.targets.dtype, script.scored.dtype) == (torch.int64, torch.bool)
    assert script.scored.any(0).all()
    assert script.scored[-1].all() or name == "n_back"
    targets = script.targets[script.scored]
    assert 0 <= targets.min() <= targets.max() < task.num_actions
    assert script.observations.abs().max() <= 1


@pytest.mark.parametrize("name", TASKS)
def test_generator_decides_the_episodes(name):
    task = make_task(name, "easy")
    assert same(observed(task, seed=3), observed(task, seed=3))
    assert not same(observed(task, seed=3), observed(task, seed=4))


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, cls in TASKS.items() for key in inspect.signature(cls).parameters]
)
def test_every_argument_changes_the_episodes(name, key):
    task = make_task(name, "easy")
    value = CHANGED[key] if key in CHANGED else getattr(task, key, 0) + 1
    play = random_policy if key == "corridor" else oracle  # who walks on is not in need of being carried
    assert not same(observed(task, play=play), observed(make_task(name, "easy", **{key: value}), play=play))


@pytest.mark.parametrize("name", TASKS)
def test_too_short_a_horizon_names_the_shortest(name):
    with pytest.raises(UsageError, match="shortest is") as answer:
        make_task(name, "easy", horizon=1)
    shortest = int(str(answer.value).rpartition(" ")[2])
    assert shortest == SHORTEST.get(name, shortest)
    assert make_task(name, "easy", horizon=shortest).horizon == shortest
    with pytest.raises(UsageError, match=f"shortest is {shortest}$"):
        make_task(name, "easy", horizon=shortest - 1)


@pytest.mark.parametrize("name", TASKS)
def test_mistakes_are_named(name):
    with pytest.raises(UsageError, match="no argument of"):
        make_task(name, "easy", horizons=50)
    with pytest.raises(UsageError, match="whole number"):
        make_task(name, "easy", horizon=50.5)
    with pytest.raises(UsageError, match="did you mean: " + name):
        get_task_config(name[:-1] + "x", "easy")
    with pytest.raises(UsageError, match="did you mean: hard"):
        get_task_config(name, "herd")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("delayed_cue", {"num_cues": 17}),
        ("delayed_cue", {"rewrite": 1.5}),
        ("delayed_cue", {"rewrite": 0.5, "noise": 0.5}),
        ("delayed_cue", {"jitter": 49}),
        ("copy_memory", {"noise": -0.1}),
        ("assoc_recall", {"num_pairs": 25}),
        ("n_back", {"gap": -1}),
        ("permuted_copy", {"seq_len": 65}),
        ("pattern_binding", {"num_patterns": 16}),
        ("distractor_nav", {"num_distractors": 24}),
        ("distractor_nav", {"budget": 1}),
        ("rewrite", {"cues": 0}),
        ("rewrite", {"rounds": 17}),
        ("state_tracking", {"group": "s4"}),
        ("state_tracking", {"questions": 0}),
        ("multi_recall", {"num_keys": 25}),
        ("selective_copy", {"noise": 1.5}),
        ("selective_copy", {"fuzzy": 4}),
        ("count_recall", {"num_symbols": 13}),
        ("graph_recall", {"num_nodes": 3}),
        ("graph_recall", {"num_nodes": 25}),
        ("growing_list", {"length": 9}),
        ("key_to_door", {"num_apples": 47}),
    ],
)
def test_impossible_values_are_refused(name, arguments):
    with pytest.raises(UsageError):
        make_task(name, "easy", **arguments)


def test_suite_holds_every_task_of_a_difficulty():
    assert [config.task for config in get_benchmark_suite("hard")] == list(SUITE)
    assert (len(SUITE), len(SECOND), set(TASKS) - {*SUITE, *SECOND}) == (8, 8, {"t_maze"})
    assert [config.horizon for config in get_benchmark_suite("easy", ["n_back", "delayed_cue"])] == [100, 50]


@pytest.mark.parametrize("name", SCRIPTED)
def test_stepping_walks_through_the_script(name):
    task, steps = make_task(name, "easy"), 120  # episodes end inside
    block_task, generator = task.fresh(), torch.Generator().manual_seed(5)
    block_task.reset(8, torch.Generator().manual_seed(5))
    block, now = block_task.advance(steps), task.reset(8, generator)
    actions = torch.randint(task.num_actions, (steps, 8))
    for t in range(steps):
        assert torch.equal(now.observation, block.observations[t])
        assert torch.equal(now.is_first, block.is_first[t])
        now = task.step(actions[t])
        assert torch.equal(now.scored, block.scored[t])
        assert torch.equal(now.correct, block.scored[t] & (actions[t] == block.targets[t]))
        assert torch.equal(now.reward, now.correct.float())
        assert torch.equal(now.terminated, block.terminated[t])


@pytest.mark.parametrize("name", TASKS)
def test_saved_batch_goes_on_with_the_same_bits(name):
    task = make_task(name, "easy")
    policy, rows = random_policy(task), []
    now = task.reset(4, torch.Generator().manual_seed(1))
    actions = torch.Generator().manual_seed(2)
    for step in range(task.horizon + task.horizon - 3):  # into the walk of distractor_nav
        now = task.step(policy(now.observation.unsqueeze(0), step, actions))
    saved = task.state_dict()
    saved = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in saved.items()}
    again = make_task(name, "easy")
    restored = again.load_state_dict(saved, torch.Generator())
    assert torch.equal(restored.observation, now.observation)
    for step in range(task.horizon + 5):
        chosen = policy(now.observation.unsqueeze(0), step, actions)
        rows.append((task.step(chosen), again.step(chosen)))
    for one, other in rows:
        assert torch.equal(one.observation, other.observation)
        assert torch.equal(one.correct, other.correct)
        assert torch.equal(one.is_first, other.is_first)


def test_held_agent_cannot_move_before_the_go_flag():
    task = make_task("distractor_nav", "easy")
    now = task.reset(16, torch.Generator().manual_seed(0))
    position = slice(task.channel("agent row").start, task.channel("agent column").stop)
    start = now.observation[:, position]
    for _ in range(task.horizon - task.budget):
        assert torch.equal(now.observation[:, position], start)
        now = task.step(torch.randint(5, (16,)))
    now = task.step(torch.full((16,), 1))
    assert not torch.equal(now.observation[:, position], start)


@pytest.mark.parametrize("name", SCRIPTED)
def test_an_item_is_where_it_is_said_to_be(name):
    """A window that begins with the item suffices for every decision; one that begins a step later does not."""
    task, generator = make_task(name, "easy"), torch.Generator().manual_seed(0)
    script = task.script(300, generator)
    if (shown := task.shown_at(script)) is None:
        assert name in ("state_tracking", "count_recall", "graph_recall")
        return
    right, without = [], []
    for step in script.scored.any(1).nonzero().flatten().tolist():
        for first in shown[step, script.scored[step]].unique().tolist():
            rows = script.scored[step] & (shown[step] == first)
            window, targets = script.observations[first : step + 1, rows], script.targets[step, rows]
            right += (task.best_guess(window, step, generator) == targets).tolist()
            later = window[2 if name == "assoc_recall" else 1 :]  # of which a value without its key tells it, too
            without += (task.best_guess(later, step, generator) == targets).tolist()
    assert all(right)
    assert sum(without) / len(without) < 0.5
