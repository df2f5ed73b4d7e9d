"""The declared anchors: measured by policies that play, and by a predictor that learns from the observations."""

from __future__ import annotations

import pytest
import torch

from memsuite.metrics import wilson_interval
from memsuite.tasks import PRESETS, TASKS, ScriptedTask, Task, get_task_config, make_task
from memsuite.tasks.mazes.distractor_nav import CENTRE, PLACES
from memsuite.tasks.policies import Policy, memoryless, oracle, play, random_policy, window

CONFIDENCE = 0.9999  # of each of about a hundred intervals

TINY = {
    "delayed_cue": {"horizon": 6, "num_cues": 2, "vocabulary": 3},
    "copy_memory": {"horizon": 9, "seq_len": 3, "symbols": 2},
    "assoc_recall": {"horizon": 7, "num_pairs": 2, "keys": 3, "values": 2},
    "n_back": {"horizon": 8, "n": 2, "symbols": 2, "gap": 2},
    "multi_cue_delay": {"horizon": 9, "num_cues": 2, "symbols": 2},
    "permuted_copy": {"horizon": 8, "seq_len": 3, "symbols": 2},
    "pattern_binding": {"horizon": 4, "num_patterns": 2},
    "rewrite": {"horizon": 19, "cues": 2, "rounds": 1, "symbols": 2},
    "state_tracking": {"horizon": 8, "moves": 3, "group": "parity", "questions": 3},
    "multi_recall": {"horizon": 8, "num_keys": 2, "keys": 2, "values": 2},
    "selective_copy": {"horizon": 8, "seq_len": 2, "symbols": 2, "noise": 0.5},
    "count_recall": {"horizon": 8, "num_symbols": 2, "symbols": 2, "most": 3},
    "growing_list": {"horizon": 13, "length": 3, "symbols": 2},
}
TINY_OPTIONS = [
    ("delayed_cue", {"jitter": 2}),
    ("delayed_cue", {"rewrite": 0.6}),
    ("delayed_cue", {"rewrite": 0.6, "jitter": 2}),
    ("delayed_cue", {"noise": 0.5}),
    ("delayed_cue", {"noise": 0.5, "jitter": 2}),
    ("copy_memory", {"jitter": 2}),
    ("copy_memory", {"noise": 0.5}),
    ("assoc_recall", {"jitter": 2}),
    ("permuted_copy", {"jitter": 2}),
    ("permuted_copy", {"noise": 0.5, "jitter": 1}),
    ("pattern_binding", {"jitter": 1}),
    ("rewrite", {"horizon": 9, "rounds": 2}),
    ("rewrite", {"horizon": 19, "cues": 3}),
    ("state_tracking", {"horizon": 6, "moves": 2, "group": "s3", "questions": 2}),
    ("selective_copy", {"noise": 0.0}),
    ("selective_copy", {"horizon": 8, "seq_len": 1, "fuzzy": 3}),
    ("selective_copy", {"horizon": 13, "fuzzy": 2, "noise": 0.0}),
]
CASES = [(name, {}) for name in TINY] + TINY_OPTIONS


def measure(task: Task, policy: Policy, episodes: int, seed: int = 0) -> tuple[float, float, float]:
    """Success with its interval; the decisions of one episode count as one, which can only widen the interval."""
    correct, scored = play(task, policy, episodes, torch.Generator().manual_seed(seed))
    success = float(correct.sum() / scored.sum())
    low, high = wilson_interval(success, episodes, CONFIDENCE)
    return success, low - 1e-9, high + 1e-9


@pytest.mark.parametrize(("name", "difficulty"), PRESETS)
def test_policies_reach_what_is_declared(name, difficulty):
    config = get_task_config(name, difficulty)
    task = config.make()
    episodes = max(64, min(1024, 200_000 // task.horizon))
    anchors, quarter = task.anchors(), task.horizon // 4
    for seed, (policy, declared) in enumerate(
        [
            (random_policy(task), anchors.random),
            (memoryless(task), anchors.memoryless),
            (window(task, quarter), task.window_anchor(quarter)),
        ]
    ):
        _, low, high = measure(task, policy, episodes, seed)
        assert low <= declared <= high
    assert measure(task, oracle(task), episodes)[0] == 1.0
    assert task.window_anchor(quarter) < config.target_success
    assert task.window_anchor(1) == pytest.approx(anchors.memoryless)
    assert task.window_anchor(task.horizon) == pytest.approx(anchors.oracle)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_window_policies_reach_what_is_declared(name, options):
    task = make_task(name, "easy", **{**TINY[name], **options})
    for steps in range(1, task.horizon + 1):
        _, low, high = measure(task, window(task, steps), 4000, seed=steps)
        assert low <= task.window_anchor(steps) <= high, steps


def table_success(keys: torch.Tensor, targets: torch.Tensor) -> float:
    """Held-out accuracy of guessing each key's most frequent target: the best guess, given enough examples."""
    _, rows = keys.unique(return_inverse=True)
    half = len(rows) // 2
    counts = torch.zeros(int(rows.max()) + 1, int(targets.max()) + 1)
    counts.index_put_((rows[:half], targets[:half]), torch.ones(half), accumulate=True)
    return float((counts.argmax(1)[rows[half:]] == targets[half:]).float().mean())


def fingerprint(observations: torch.Tensor) -> torch.Tensor:
    """One number for each row ``[N, ...]``, different for different rows."""
    flat = observations.flatten(1).double()
    return flat @ torch.rand(flat.shape[1], generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_no_predictor_beats_the_declared_windows(name, options):
    task = make_task(name, "easy", **{**TINY[name], **options})
    assert isinstance(task, ScriptedTask)
    script = task.script(30_000, torch.Generator().manual_seed(0))
    for steps in range(1, task.horizon + 1):
        right = total = 0.0
        for step in script.scored.any(1).nonzero().flatten().tolist():
            rows = script.scored[step]
            shown = script.observations[max(0, step - steps + 1) : step + 1, rows].transpose(0, 1)
            count = float(rows.sum())
            right += count * table_success(fingerprint(shown), script.targets[step, rows])
            total += count
        assert right / total == pytest.approx(task.window_anchor(steps), abs=0.025), steps


@pytest.mark.parametrize(("name", "difficulty"), [key for key in PRESETS if issubclass(TASKS[key[0]], ScriptedTask)])
def test_no_observation_at_a_scored_step_tells_more_than_declared(name, difficulty):
    task = make_task(name, difficulty)
    assert isinstance(task, ScriptedTask)
    script = task.script(max(256, min(4096, 600_000 // task.horizon)), torch.Generator().manual_seed(0))
    step, env = script.scored.nonzero(as_tuple=True)
    order = torch.randperm(len(step), generator=torch.Generator().manual_seed(1))
    keys = fingerprint(script.observations[step, env])[order]
    declared = task.anchors().memoryless
    repeats = (task.length + 1) / 2 if name == "growing_list" else 1  # decisions that ask for the same symbol
    tolerance = 4 * (declared * (1 - declared) / (len(keys) / 2 / repeats)) ** 0.5
    assert table_success(keys, script.targets[step, env][order]) < declared + tolerance


def test_no_step_of_a_random_walk_tells_the_goal():
    task = make_task("distractor_nav", "easy")
    now, generator = task.reset(8000, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    rows = []
    for step in range(task.horizon):
        rows.append(now.observation)
        if step == task.horizon - task.budget:
            goal = task._goal
        now = task.step(torch.randint(5, (8000,), generator=generator))
    tolerance = 4 * (1 / PLACES / 4000) ** 0.5
    for step in range(task.horizon - task.budget - 20, task.horizon):
        assert table_success(fingerprint(rows[step]), goal) < 1 / PLACES + tolerance
    assert (goal != CENTRE).all()


PAIRS = [("assoc_recall", "value"), ("pattern_binding", "label")]


@pytest.mark.parametrize(("name", "channel"), PAIRS)
@pytest.mark.parametrize("difficulty", ["easy", "extreme"])
def test_knowing_all_values_but_no_binding_reaches_what_is_declared(name, channel, difficulty):
    config = get_task_config(name, difficulty)
    task = config.make(horizon=100)
    assert isinstance(task, ScriptedTask)
    script = task.script(4000, torch.Generator().manual_seed(0))
    stride = 2 if name == "assoc_recall" else 1
    size = next(iter(config.args.values()))
    shown = script.observations[: stride * size, :, task.channel(channel)].sum(0)
    success = float((shown.argmax(-1) == script.targets[-1]).float().mean())
    low, high = wilson_interval(success, 4000, CONFIDENCE)
    assert low <= task.anchors().unbound <= high < config.target_success


@pytest.mark.parametrize("distractors", [2, 20])
def test_knowing_all_places_but_not_the_goal_reaches_what_is_declared(distractors):
    task = make_task("distractor_nav", "easy", num_distractors=distractors)
    task.reset(4000, torch.Generator().manual_seed(0))
    counts = torch.nn.functional.one_hot(task._places, 9).sum(0)
    success = float((counts.argmax(-1) == task._goal).float().mean())
    low, high = wilson_interval(success, 4000, CONFIDENCE)
    assert low <= task.anchors().unbound <= high < 0.9


def test_window_of_the_navigation_is_never_above_what_is_declared():
    task = make_task("distractor_nav", "easy", horizon=20)
    for steps in range(1, task.horizon + 1):
        _, low, _ = measure(task, window(task, steps), 2000, seed=steps)
        assert low <= task.window_anchor(steps), steps


@pytest.mark.parametrize("name", ["assoc_recall", "pattern_binding"])
def test_pairs_differ_and_the_asked_one_was_shown(name):
    task = make_task(name, "hard", horizon=60)
    assert isinstance(task, ScriptedTask)
    observations = task.script(500, torch.Generator().manual_seed(0)).observations
    if name == "assoc_recall":
        keys = observations[:24:2, :, task.channel("key")]
    else:
        keys = observations[:8, :, :8]
        assert (keys.sum(0) > 1).any(-1).all()  # some part is in several patterns
    asked = observations[-1, :, : keys.shape[-1]]
    assert ((keys == asked).all(-1).sum(0) == 1).all()
    codes = keys @ torch.rand(keys.shape[-1], generator=torch.Generator().manual_seed(0))
    assert all(len(codes[:, env].unique()) == len(codes) for env in range(500))


@pytest.mark.parametrize("difficulty", ["easy", "extreme"])
def test_knowing_all_newest_values_but_no_key_reaches_what_is_declared(difficulty):
    task = get_task_config("multi_recall", difficulty).make(horizon=100)
    script = task.script(4000, torch.Generator().manual_seed(0))
    newest = torch.nn.functional.one_hot(script.targets, task.values) * script.scored.unsqueeze(-1)
    success = float((newest.sum(0).amax(-1) / script.scored.sum(0)).mean())
    low, high = wilson_interval(success, 4000, CONFIDENCE)
    assert low <= task.anchors().unbound <= high < 0.65


def test_window_on_a_graph_is_never_above_what_is_declared():
    task = make_task("graph_recall", "easy", horizon=9, num_nodes=6)
    found = {}
    for steps in range(1, task.horizon + 1):
        found[steps], low, _ = measure(task, window(task, steps), 4000, seed=steps)
        assert low <= task.window_anchor(steps), steps
    declared = [task.window_anchor(steps) for steps in range(1, task.horizon + 1)]
    assert declared == sorted(declared)
    assert found[8] == found[9] == 1.0  # the last edge closes the cycle


@pytest.mark.parametrize("nodes", [4, 6])
def test_the_best_guess_on_a_graph_is_never_the_node_that_is_asked_for(nodes):
    task = make_task("graph_recall", "easy", horizon=5, num_nodes=4, nodes=nodes)
    _, low, high = measure(task, window(task, 1), 20_000, seed=0)
    assert low <= task.anchors().memoryless <= high


def test_no_predictor_beats_the_declared_windows_on_a_graph():
    task = make_task("graph_recall", "easy", horizon=6, num_nodes=4, nodes=4)
    script = task.script(60_000, torch.Generator().manual_seed(0))
    for steps in range(1, task.horizon + 1):
        keys = fingerprint(script.observations[-steps:].transpose(0, 1))
        assert table_success(keys, script.targets[-1]) <= task.window_anchor(steps) + 0.02, steps


def test_no_observation_before_the_door_depends_on_what_was_done():
    task = make_task("key_to_door", "easy", horizon=12)
    for steps in range(1, task.horizon + 1):
        _, low, high = measure(task, window(task, steps), 4000, seed=steps)
        assert low <= task.window_anchor(steps) <= high, steps
