"""The module under a user's own Trainer: budgets, loading, copies and callbacks, with Lightning's semantics."""

import copy
import pickle

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

import memsuite
from memsuite.callbacks import Checkpoints, Curriculum
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.storage import AtomicCheckpointIO

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # Lightning's advice for a Trainer as it comes
PLAIN = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def small(**overrides) -> MemoryPPO:
    settings = {"difficulty": "easy", "horizon": 10, "num_envs": 8, "steps": 8 * 10 * 4, "evaluation_episodes": 8}
    return MemoryPPO(**{**settings, "controller_args": {"hidden_dim": 8}, **overrides})


class Rates(pl.Callback):
    """Records the learning rate of every iteration."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.seen.append(pl_module.optimizers().param_groups[0]["lr"])


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "asked",
    [
        {"max_epochs": 1},
        {"max_epochs": 3},
        {"max_epochs": -1},
        {},
        {"max_epochs": -1, "limit_train_batches": 1},
        {"max_epochs": 50, "limit_train_batches": 3},
        {"min_epochs": 3, "max_epochs": 5},
    ],
    ids=str,
)
def test_the_budget_holds_whoever_trains(asked):
    module, rates = small(), Rates()
    pl.Trainer(**PLAIN, **asked, callbacks=[rates]).fit(module)
    assert module.env_steps == 8 * 10 * 4
    assert len(rates.seen) == 4
    assert min(rates.seen) > 0


def test_a_trainer_that_is_asked_again_trains_no_more():
    module = small()
    for _ in range(2):
        pl.Trainer(**PLAIN, max_epochs=2).fit(module)
    assert module.env_steps == 8 * 10 * 4


def test_the_budget_holds_under_a_curriculum():
    module = small(steps=8 * 10 * 5)
    pl.Trainer(**PLAIN, max_epochs=4, callbacks=[Curriculum(start=5, success=0.01)]).fit(module)
    assert 8 * 10 * 4 < module.env_steps <= 8 * 10 * 5


def test_many_epochs_train_to_the_bits_of_one():
    one, many = small(), small()
    pl.Trainer(**PLAIN, max_epochs=1).fit(one)
    pl.Trainer(**PLAIN, max_epochs=9, limit_train_batches=1).fit(many)
    assert same(one, many)


@pytest.fixture
def saved(tmp_path):
    module = small(task_args={"jitter": 2}, seed=7)
    pl.Trainer(**PLAIN, max_epochs=1, callbacks=[Checkpoints(tmp_path)], plugins=[AtomicCheckpointIO()]).fit(module)
    return module, tmp_path / "checkpoints" / "last.ckpt"


def test_lightnings_own_loading_builds_what_was_saved(saved):
    module, path = saved
    for found in (MemoryPPO.load_from_checkpoint(path), memsuite.load(path)):
        assert found.config == module.config
        assert found.config["task_args"]["jitter"] == 2
        assert (found.task.horizon, found.seed, found.env_steps) == (10, 7, module.env_steps)
        assert same(found, module)
        assert found.evaluate(16, "x") == module.evaluate(16, "x")


def test_loading_takes_settings_that_fit_the_weights(saved):
    module, path = saved
    found = MemoryPPO.load_from_checkpoint(
        path, map_location="cpu", weights_only=True, evaluation_episodes=4, horizon=12
    )
    assert (found.evaluation_episodes, found.task.horizon, found.seed) == (4, 12, 7)
    assert same(found, module)


def test_a_loaded_module_trains_on_from_its_weights_in_new_episodes(saved, tmp_path):
    class Starts(pl.Callback):
        def on_train_batch_start(self, trainer, module, *_):
            shown.append(module.actor.timestep.observation.clone())
            weights.append(copy.deepcopy(module.model.state_dict()))

    shown, weights = [], []
    longer = pl.Trainer(**PLAIN, max_epochs=1, callbacks=[Starts(), Checkpoints(tmp_path / "later")])
    first = small(init_from=str(saved[1]), seed=8, num_envs=64, steps=64 * 10 * 2)
    longer.fit(first)
    begun = len(shown)
    loaded = MemoryPPO.load_from_checkpoint(tmp_path / "later" / "checkpoints" / "last.ckpt", steps=64 * 10 * 4)
    pl.Trainer(**PLAIN, max_epochs=1, callbacks=[Starts()]).fit(loaded)
    assert (begun, len(shown), loaded.iteration) == (2, 4, 4)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(weights[begun][name], tensor), name  # and not those that the first run began with
    assert not torch.equal(shown[begun], shown[0])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"controller": "lstm"}, "does not fit lstm"),
        ({"tsak": "n_back"}, "did you mean: task"),
        ({"strict": False}, "init_from"),
        ({"hparams_file": "hparams.yaml"}, "hparams_file"),
        ({"map_location": {"cuda:0": "cpu"}}, "one device"),
    ],
)
def test_loading_refuses_what_it_cannot_do(saved, asked, words):
    with pytest.raises(UsageError, match=words):
        MemoryPPO.load_from_checkpoint(saved[1], **asked)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("task", ["delayed_cue", "distractor_nav", "gym:CartPole-v1"])
def test_a_module_can_be_copied_and_trained_on(duplicate, trained, task):
    module = small(task=task, horizon=10)
    if trained:
        pl.Trainer(**PLAIN, max_epochs=1, limit_train_batches=2).fit(module)
        module.course.budget = module.env_steps + 2 * module.course.per_iteration
    before = copy.deepcopy(module.state_dict())
    other = duplicate(module)
    assert same(module, other)
    assert other.env_steps == module.env_steps
    pl.Trainer(**PLAIN, max_epochs=1).fit(other)
    assert other.env_steps > module.env_steps
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("kind", [WeightAveraging, EMAWeightAveraging])
def test_weight_averaging_works(tmp_path, kind):
    module = small()
    callbacks = [kind(), Checkpoints(tmp_path, every=2)]
    trainer = pl.Trainer(**PLAIN, max_epochs=2, callbacks=callbacks, plugins=[AtomicCheckpointIO()])
    trainer.fit(module)
    assert module.env_steps == 8 * 10 * 4
    assert same(memsuite.load(tmp_path), module)  # the averaged weights, which are the ones that are evaluated


def test_averaging_over_epochs_is_refused_in_one_line():
    with pytest.raises(UsageError, match="a run has one epoch"):
        pl.Trainer(**PLAIN, max_epochs=2, callbacks=[StochasticWeightAveraging(swa_lrs=1e-3)]).fit(small())
