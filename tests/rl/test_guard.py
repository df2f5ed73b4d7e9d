"""A loss or gradient that is not finite changes nothing and is counted; too many in a row end the run."""

import copy
import csv

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from memsuite.errors import Stopped
from memsuite.rl import AdvantageScale
from memsuite.rl.guard import UpdateGuard

NAN, INF = float("nan"), float("inf")


def optimiser(dtype=torch.float32):
    parameter = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    adam = torch.optim.Adam([parameter], fused=True)
    return parameter, adam, type("Wrapped", (), {"optimizer": adam, "step": staticmethod(adam.step)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (INF, 1.0), (1.0, NAN), (1.0, INF), (-INF, NAN)])
def test_a_skipped_step_leaves_everything_as_it_was(loss, norm, dtype):
    parameter, adam, wrapped = optimiser(dtype)
    guard = UpdateGuard(3)
    parameter.grad = torch.ones_like(parameter)
    answers = [guard.step(wrapped, torch.tensor(1.0), torch.tensor(1.0))]
    before, state = parameter.detach().clone(), copy.deepcopy(adam.state_dict())
    parameter.grad = torch.full_like(parameter, NAN)
    answers.append(guard.step(wrapped, torch.tensor(loss, dtype=dtype), torch.tensor(norm)))
    assert torch.equal(parameter, before)
    for name, value in adam.state_dict()["state"][0].items():
        assert torch.equal(value, state["state"][0][name]), name
    parameter.grad = torch.ones_like(parameter)
    answers.append(guard.step(wrapped, torch.tensor(1.0), torch.tensor(1.0)))
    assert not torch.equal(parameter, before)
    assert torch.stack(answers).tolist() == [0, 1, 0]
    guard.count([float(answer) for answer in answers])
    assert (guard.total, guard.in_a_row) == (1, 0)


def test_the_wrapper_lightning_gives_is_the_one_that_is_guarded():
    adam = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], fused=True)
    assert LightningOptimizer(adam).optimizer is adam


def test_a_row_of_skipped_updates_reaches_across_iterations_and_ends_the_run():
    _, _, wrapped = optimiser()
    guard = UpdateGuard(3)
    bad, good = torch.tensor(NAN), torch.tensor(1.0)
    for losses in ([bad, good, bad], [bad]):
        guard.count([float(guard.step(wrapped, loss, good)) for loss in losses])
    assert (guard.total, guard.in_a_row) == (3, 2)
    restored = UpdateGuard(3)
    restored.load_state_dict(guard.state_dict())
    with pytest.raises(Stopped, match="3 updates in a row"):
        restored.count([1.0, 0.0])
    assert (restored.total, restored.in_a_row) == (4, 0)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_scale_of_advantages_forgets_a_rollout_that_is_not_finite(bad):
    scale, clean = AdvantageScale(), AdvantageScale()
    scale(torch.full((4, 2), bad))
    for value in (1.0, 3.0):
        assert torch.equal(scale(torch.full((4, 2), value)), clean(torch.full((4, 2), value)))
        scale(torch.full((4, 2), bad))
    assert torch.equal(scale.mean_square, clean.mean_square)
    assert torch.equal(scale.gathered, clean.gathered)


def read_rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def poisoned(module, iterations):
    """Let the rollouts of some iterations end in a reward of NaN."""
    from memsuite import module as where

    collect = where.collect

    def collect_poisoned(*args):
        trajectory, actor = collect(*args)
        if module.iteration in iterations:
            trajectory.rewards[-1, 0] = NAN
        return trajectory, actor

    return collect_poisoned


def test_training_goes_on_after_a_bad_rollout(tmp_path, monkeypatch):
    from test_module import quiet_lightning, small, train

    from memsuite import module as where

    quiet_lightning()
    module = small()
    monkeypatch.setattr(where, "collect", poisoned(module, (2,)))
    train(module, tmp_path, limit_val_batches=0)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert [row["skipped_updates"] for row in read_rows(tmp_path)] == ["0", "0", "4", "0", "0", "0"]
    assert (module.guard.total, module.guard.in_a_row) == (4, 0)


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
@pytest.mark.parametrize("objective", ["ppo", "supervised"])
def test_a_rollout_without_a_decision_moves_nothing(tmp_path, objective, optimizer):
    from test_module import quiet_lightning, small, train

    from memsuite.rl import PPOConfig

    class Records(pl.Callback):
        def on_train_batch_start(self, trainer, module, *_):
            held.append(copy.deepcopy(module.model.state_dict()))

    held: list = []
    ppo = PPOConfig(draws=4, rollout_length=5, optimizer=optimizer, recurrent_lr_scale=1.0, minibatches=2)
    # The second half of an episode has the question, and momentum is there from the first answer on.
    args = {"num_cues": 2, "vocabulary": 2}
    module = small(horizon=10, num_envs=32, steps=32 * 5 * 7, ppo=ppo, task_args=args, objective=objective)
    quiet_lightning()
    train(module, tmp_path, Records(), limit_val_batches=0)
    pairs = zip(held, [*held[1:], module.model.state_dict()], strict=True)
    alike = [all(torch.equal(before[name], after[name]) for name in before) for before, after in pairs]
    assert alike == [True, False, True, False, True, False, True]
    states = module.optimizers().optimizer.state_dict()["state"]
    assert {int(state["step"]) for state in states.values()} == {3 * ppo.minibatches}
    rows = read_rows(tmp_path)
    assert [row["entropy"] == "nan" for row in rows] == [True, False] * 3 + [True]
    assert {row["skipped_updates"] for row in rows} == {"0"}
