"""Actions are credited with later rewards once they are seen to have consequences, and not before."""

import threading
from types import SimpleNamespace

import pytest
import torch

from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl import Credit, PPOConfig, begin, collect, sample


def rollouts(consequence: float, number: int, seed: int = 0, steps: int = 40, envs: int = 16):
    """Yield rollouts of random actions, which shift the next observation's first channel by ``consequence``."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        draws = torch.rand(steps, envs, generator=generator)
        actions = sample(torch.zeros(steps, envs, 3), draws)
        observations = torch.randn(steps, envs, 5, generator=generator).cumsum(0)  # correlated over steps
        observations[1:, :, 0] += consequence * actions[:-1]
        rewards = (actions == 1).float() * (torch.rand(steps, envs, generator=generator) < 0.1)
        ended = torch.zeros(steps, envs, dtype=torch.bool)
        ended[-1] = True
        yield SimpleNamespace(
            draws=draws, observations=observations, rewards=rewards, terminated=ended, truncated=torch.zeros_like(ended)
        )


def test_actions_without_consequences_are_never_credited():
    """Immediate rewards are no consequence, nor are observations that occur anyway, however correlated over time."""
    for seed in range(20):
        credit = Credit(0.99, 0.95, True, 3, 5)
        assert {credit(one) for one in rollouts(0.0, 20, seed)} == {(0.0, 0.0)}


def test_a_consequence_is_found_and_stays_found():
    credit = Credit(0.5, 0.5, True, 3, 5)
    found = [credit(one) for one in rollouts(2.0, 20)]
    assert found[-1] == (0.5, 0.5)
    assert found == sorted(found)
    assert credit(next(rollouts(0.0, 1))) == (0.5, 0.5)


def test_one_environment_alone_is_tested_too():
    """It has no others to be centred on."""
    credit = Credit(0.5, 0.5, True, 3, 5)
    assert [credit(one) for one in rollouts(2.0, 400, envs=1)][-1] == (0.5, 0.5)
    for seed in range(20):
        credit = Credit(0.99, 0.95, True, 3, 5)
        assert {credit(one) for one in rollouts(0.0, 20, seed, envs=1)} == {(0.0, 0.0)}


def test_processes_of_one_environment_are_one_of_all(monkeypatch):
    """Two threads stand for two processes, which meet wherever sums over all processes are taken."""
    met, given = threading.Barrier(2, timeout=30), {}

    def total(tensor):
        given[threading.current_thread().name] = tensor
        met.wait()
        found = given["first"] + given["second"]
        met.wait()
        return found

    def part(one, at):
        return SimpleNamespace(**{name: value[:, at : at + 1] for name, value in vars(one).items()})

    (whole,) = rollouts(1.0, 1, envs=2)
    expected, halves = Credit(0.9, 0.9, True, 3, 5), [Credit(0.9, 0.9, True, 3, 5) for _ in range(2)]
    expected(whole)
    monkeypatch.setattr("memsuite.rl.credit.total", total)
    threads = [
        threading.Thread(target=credit, args=(part(whole, at),), name=name)
        for at, (credit, name) in enumerate(zip(halves, ("first", "second"), strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for credit in halves:
        torch.testing.assert_close(credit.products, expected.products, rtol=0, atol=1e-9)
        torch.testing.assert_close(credit.squares, expected.squares, rtol=0, atol=1e-9)


def test_a_later_reward_is_a_consequence_too():
    def paid_later(one):
        one.rewards[1:] = (one.draws[:-1] > 2 / 3).float()
        one.rewards[0] = 0
        return one

    credit = Credit(0.9, 0.9, True, 3, 5)
    assert [credit(paid_later(one)) for one in rollouts(0.0, 5)][-1] == (0.9, 0.9)


def test_what_is_assumed_needs_no_evidence():
    assert Credit(0.99, 0.95, False, 3, 5)(None) == (0.99, 0.95)
    assert not list(Credit(0.99, 0.95, False, 3, 5).buffers())
    assert Credit(0.0, 0.0, True, 3, 5)(None) == (0.0, 0.0)


@pytest.mark.parametrize(("task", "found"), [("gym:CartPole-v1", True), ("copy_memory", False)])
def test_on_real_tasks(task, found):
    module = MemoryPPO(task=task, difficulty="easy", controller="pseudo_mamba", num_envs=16)
    credit = Credit(0.99, 0.95, True, module.task.num_actions, module.task.observation_dim)
    generator = torch.Generator().manual_seed(0)
    actor = begin(module.task, module.model, 16, generator)
    for _ in range(10):
        trajectory, actor = collect(module.task, module.model, actor, 100, generator)
        credit(trajectory)
    assert credit.found() == found


def test_another_word_is_refused():
    with pytest.raises(UsageError, match="did you mean: tested"):
        PPOConfig(consequences="testd")
