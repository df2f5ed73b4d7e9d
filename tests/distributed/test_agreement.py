"""All processes decide together about a KL or a number that only one of them sees; their parameters stay equal."""

from dataclasses import replace

import pytest
import torch
from agents import ENVS, ITERATIONS, fit, module_of, record_steps
from first_recipe import first_recipe
from processes import run

from memsuite import module as where
from memsuite.callbacks import Curriculum
from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.rl import TERMS, LossTerms, envs_per_process, update

pytestmark = pytest.mark.ddp
INF = float("inf")


def train(rank: int, world: int, change: str, ppo: dict) -> dict:
    """Train, with something changed in the second process."""
    module = module_of(ppo=first_recipe(epochs=3, minibatches=2, **ppo))
    collect, losses, seen, backwards = where.collect, update.minibatch_losses, [], []

    def collect_changed(*args):
        trajectory, actor = collect(*args)
        seen.append(trajectory.observations)
        if rank == 1 and change == "reward" and module.iteration == 1:
            trajectory.rewards[-1, 0] = float("nan")
        return trajectory, actor

    def losses_changed(*args):
        for share, terms in losses(*args):
            backwards.append(1)
            if rank == 1 and change == "kl":
                terms = terms._replace(terms=terms.terms + 1e6 * (torch.arange(6) == TERMS.index("kl")))
            if rank == 1 and change == "loss" and module.iteration == 1:
                spoilt = terms.terms + torch.tensor([INF, 0, 0, 0, 0, 0])
                terms = LossTerms(terms.total + INF, spoilt)  # the gradient of this loss is finite
            yield share, terms

    where.collect, update.minibatch_losses = collect_changed, losses_changed
    steps, rows = [], []
    record_steps(steps)
    module.log_row = rows.append
    fit(module, world)
    return {"steps": steps, "seen": seen, "backwards": len(backwards), "rows": rows, "skipped": module.guard.total}


def assert_equal_parameters(outcomes) -> None:
    for steps in zip(*(outcome["steps"] for outcome in outcomes), strict=True):
        for first, second in zip(*(step["after"] for step in steps), strict=True):
            assert torch.equal(first, second)
            assert torch.isfinite(first).all()


def test_parameters_are_equal_after_every_step_and_episodes_are_not(tmp_path):
    outcomes = run(train, 2, tmp_path, "", {})
    assert_equal_parameters(outcomes)
    assert [len(outcome["steps"]) for outcome in outcomes] == [6 * ITERATIONS] * 2
    for first, second in zip(*(outcome["seen"] for outcome in outcomes), strict=True):
        assert first.shape[1] == ENVS // 2
        assert not torch.equal(first, second)
    assert str(outcomes[0]["rows"]) == str(outcomes[1]["rows"])  # NaN differs from itself
    steps = outcomes[0]["steps"]
    assert any(not torch.equal(a, b) for a, b in zip(steps[0]["after"], steps[-1]["after"], strict=True))


@pytest.mark.parametrize(("change", "expected"), [("kl", 2 * ITERATIONS), ("", 6 * ITERATIONS)])
def test_a_kl_that_is_large_in_one_process_stops_the_epochs_in_both(tmp_path, change, expected):
    outcomes = run(train, 2, tmp_path, change, {"target_kl": 1e3})
    assert [outcome["backwards"] for outcome in outcomes] == [expected] * 2
    assert_equal_parameters(outcomes)


@pytest.mark.parametrize("change", ["reward", "loss"])
def test_what_is_not_finite_in_one_process_is_skipped_in_both(tmp_path, change):
    outcomes = run(train, 2, tmp_path, change, {})
    assert [outcome["skipped"] for outcome in outcomes] == [6, 6]
    assert [row["skipped_updates"] for row in outcomes[0]["rows"]] == [0, 6, 0]
    assert_equal_parameters(outcomes)


def grow(rank: int, world: int, success: float) -> dict:
    """Train on a curriculum; every decision of the first process is right, and none of the others' is."""
    collect, lengths = where.collect, []

    def collect_changed(*args):
        trajectory, actor = collect(*args)
        lengths.append(len(trajectory.actions))
        return replace(trajectory, correct=trajectory.scored & (rank == 0)), actor

    where.collect = collect_changed
    module = module_of(steps=4 * ENVS * 12)
    fit(module, world, Curriculum(5, success=success))
    return {"lengths": lengths, "curriculum": module.course.curriculum}


@pytest.mark.parametrize(("success", "expected"), [(0.5, [5, 10, 12, 12]), (0.6, [5] * 9)])
def test_a_curriculum_grows_by_the_success_of_all(tmp_path, success, expected):
    first, second = run(grow, 2, tmp_path, success)
    assert first == second
    assert first["lengths"] == expected


WITH_CRITICS = [*((controller, "memory") for controller in CONTROLLERS), ("gru", "observation"), ("lru", "observation")]


def train_every_controller(rank: int, world: int) -> list[bool]:
    """Train each controller; a parameter without a gradient would raise. Return whether the processes end equal."""
    same = []
    for controller, critic in WITH_CRITICS:
        arguments = {"hidden_dim": 8} | ({"num_heads": 2} if controller in ("transformer", "mlstm") else {})
        ppo = first_recipe(epochs=1, minibatches=2, critic=critic)
        module = module_of(controller, ppo, controller_args=arguments, steps=2 * ENVS * 12)
        fit(module, world)
        values = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
        both = [torch.empty_like(values) for _ in range(world)]
        torch.distributed.all_gather(both, values)
        same.append(torch.equal(*both))
    return same


def test_every_controller_trains_with_both_critics(tmp_path):
    assert run(train_every_controller, 2, tmp_path) == [[True] * len(WITH_CRITICS)] * 2


def evaluate(rank: int, world: int, task: str) -> dict[str, float]:
    fit(module_of(steps=12 * ENVS), world)  # from now on the processes are one run
    return module_of(task=task, task_args=None).evaluate(300, "test")


@pytest.mark.parametrize("task", ["n_back", "distractor_nav"])
def test_an_evaluation_has_the_numbers_of_one_process(tmp_path, task):
    (one,) = run(evaluate, 1, tmp_path / "one", task)
    assert run(evaluate, 2, tmp_path / "two", task) == [one, one]
    assert one["episodes"] == 300


@pytest.mark.parametrize(
    ("num_envs", "processes", "minibatches", "message"),
    [(9, 2, 1, "multiple"), (8, 4, 3, "at most num_envs = 8 / 4 processes"), (2, 4, 1, "multiple")],
)
def test_shares_that_would_differ_are_refused(num_envs, processes, minibatches, message):
    with pytest.raises(UsageError, match=message):
        envs_per_process(num_envs, processes, first_recipe(minibatches=minibatches))
    assert envs_per_process(8, 4, first_recipe(minibatches=2)) == 2
    with pytest.raises(UsageError, match="2 processes of 4 draws"):
        envs_per_process(12, 2, first_recipe(draws=4, advantage="group_mean"))
