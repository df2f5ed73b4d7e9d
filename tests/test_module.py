"""MemoryPPO: it learns, it resumes with the same bits, and every setting has its effect."""

import csv
from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from first_recipe import first_recipe

import memsuite
from memsuite.callbacks import Checkpoints, RunRecord, StopAtTarget
from memsuite.errors import UsageError
from memsuite.launch.trainer import TRAINER_DEFAULTS, quiet_lightning
from memsuite.module import MemoryPPO, stream
from memsuite.rl import TERMS, PPOConfig, begin, collect, minibatch_losses
from memsuite.storage import AtomicCheckpointIO, MetricsCSV


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


def small(**overrides) -> MemoryPPO:
    settings = {
        "difficulty": "easy",
        "horizon": 10,
        "controller_args": {"hidden_dim": 16},
        "num_envs": 8,
        "steps": 8 * 10 * 6,
        "evaluation_episodes": 16,
        "ppo": first_recipe(epochs=2, minibatches=2),
    }
    return MemoryPPO(**{**settings, **overrides})


def train(module: MemoryPPO, folder, *callbacks, ckpt_path=None, **trainer) -> pl.Trainer:
    settings = {
        **TRAINER_DEFAULTS,
        "accelerator": "cpu",
        "logger": MetricsCSV(folder),
        "val_check_interval": 2,
        **trainer,
    }
    trainer = pl.Trainer(**settings, callbacks=list(callbacks), plugins=[AtomicCheckpointIO()])
    trainer.fit(module, ckpt_path=ckpt_path)
    return trainer


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def rows(folder) -> list[str]:
    return (folder / "metrics.csv").read_text().splitlines()


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_weights_of_sixteen_bits_are_refused(tmp_path, precision):
    with pytest.raises(UsageError, match=f"precision is {precision}; it must be one of 32-true, 64-true, bf16-mixed"):
        train(small(), tmp_path, precision=precision)


def test_it_learns_a_short_delay(tmp_path):
    module = small(
        horizon=5, task_args={"num_cues": 2, "vocabulary": 2}, num_envs=32, steps=32 * 5 * 40, evaluation_episodes=256
    )
    train(module, tmp_path)
    assert module.evaluate(256, "test")["success"] > 0.95


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    modules = [small(seed=seed) for seed in (1, 1, 2)]
    for i, module in enumerate(modules):
        train(module, tmp_path / str(i))
    assert same_weights(modules[0], modules[1])
    assert not same_weights(modules[0], modules[2])
    assert rows(tmp_path / "0") == rows(tmp_path / "1")


@pytest.mark.parametrize("task", ["delayed_cue", "distractor_nav"], ids=["scripted", "stepped"])
@pytest.mark.parametrize("rollout_length", [None, 7, 23], ids=["whole", "shorter", "longer"])
def test_resumed_equals_undisturbed_bit_for_bit(tmp_path, rollout_length, task):
    ppo = first_recipe(epochs=2, minibatches=2, rollout_length=rollout_length, anneal=True)
    steps = 6 * 8 * (rollout_length or 10)
    whole = small(task=task, ppo=ppo, steps=steps)
    train(whole, tmp_path / "whole")

    class Cut(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if module.iteration == 4:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(small(task=task, ppo=ppo, steps=steps), tmp_path / "cut", Checkpoints(tmp_path / "cut", every=3), Cut())
    resumed = small(task=task, ppo=ppo, steps=steps)
    train(resumed, tmp_path / "cut", ckpt_path=tmp_path / "cut" / "checkpoints" / "last.ckpt")
    assert resumed.iteration == whole.iteration == 6
    assert same_weights(whole, resumed)
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")


@pytest.mark.parametrize("task", ["n_back", "assoc_recall"])
def test_double_precision_resumes_bit_for_bit(tmp_path, task):
    """Lightning loads weights before it converts the module, and changes the usual kind of number while it trains."""
    horizon = 20
    settings = {"task": task, "horizon": horizon, "ppo": PPOConfig(anneal=False), "num_envs": 8}
    whole, half, resumed = (small(**settings, steps=8 * horizon * count) for count in (4, 2, 4))
    train(whole, tmp_path / "whole", precision="64-true")
    train(half, tmp_path / "cut", Checkpoints(tmp_path / "cut", every=2), precision="64-true")
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    train(resumed, tmp_path / "cut", ckpt_path=last, precision="64-true")
    assert {parameter.dtype for parameter in resumed.parameters()} == {torch.float64}
    assert same_weights(whole, resumed)


def test_evaluation_touches_nothing_of_training(tmp_path):
    often, never = small(), small()
    train(often, tmp_path / "often", val_check_interval=1)
    train(never, tmp_path / "never", limit_val_batches=0)
    assert same_weights(often, never)


def test_every_evaluation_leaves_a_row(tmp_path):
    train(small(), tmp_path, val_check_interval=2)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["env_steps"] for row in found if row["evaluation_success"]] == ["160", "320", "480"]
    assert [row["env_steps"] for row in found if row["success"]] == [str(80 * i) for i in range(1, 7)]


def test_evaluation_reproduces_and_differs_by_stream():
    module = small(task_args={"num_cues": 16})
    assert module.evaluate(64, "test") == module.evaluate(64, "test")
    assert module.evaluate(640, "test")["success"] != module.evaluate(640, "validation")["success"]


@pytest.mark.parametrize("window", [1, 3, 7])
def test_cut_backpropagation_keeps_the_forward_pass(window):
    """With any bptt_steps the loss equals that of full backpropagation; only the reach of the gradient changes."""
    outcomes = []
    for bptt in (None, window):
        module = small(ppo=first_recipe(bptt_steps=bptt), seed=3).double()
        task = module.task
        draw = task.script
        task.script = lambda n, g, draw=draw: type(s := draw(n, g))(s.observations.double(), s.targets, s.scored)
        actor = begin(task, module.model, 8, stream(0, "task"))
        trajectory, _ = collect(task, module.model, actor, 25, stream(0, "actions"))
        weights = torch.randn(trajectory.actions.shape, dtype=torch.float64, generator=stream(0, "weights"))
        terms = torch.zeros(len(TERMS), dtype=torch.float64)
        for share, found in minibatch_losses(module.model, trajectory, weights, weights, torch.arange(4), module.ppo):
            (found.total * share).backward()
            terms += found.terms * share
        outcomes.append((terms, module.model.controller.layers[0].weight_hh.grad.clone()))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(outcomes[0][1], outcomes[1][1])


def test_target_kl_ends_the_epochs():
    class Counting(MemoryPPO):
        backwards = 0

        def manual_backward(self, loss, *args, **kwargs):
            self.backwards += 1
            return super().manual_backward(loss, *args, **kwargs)

    counts = []
    for target_kl in (None, 1e-9):
        ppo = first_recipe(epochs=4, minibatches=2, target_kl=target_kl)
        args = {"num_cues": 2, "vocabulary": 2}
        module = Counting(difficulty="easy", horizon=10, task_args=args, num_envs=8, steps=80, ppo=ppo)
        pl.Trainer(**{**TRAINER_DEFAULTS, "accelerator": "cpu", "limit_val_batches": 0}).fit(module)
        counts.append(module.backwards)
    assert counts == [8, 2]


def test_recurrent_parameters_learn_at_their_own_rate(tmp_path):
    frozen = small(ppo=first_recipe(epochs=1, recurrent_lr_scale=0.0))
    before = {name: parameter.clone() for name, parameter in frozen.model.controller.named_parameters()}
    train(frozen, tmp_path)
    recurrent = {id(parameter) for parameter in frozen.model.controller.recurrent_parameters()}
    assert recurrent
    for name, parameter in frozen.model.controller.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) in recurrent), name


def test_stop_at_target(tmp_path):
    module = small(steps=8 * 10 * 50)
    train(module, tmp_path, StopAtTarget(target=0.0, patience=2), val_check_interval=1)
    assert module.iteration == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 5}, "target is 5; it must be in"),
        ({"target": -3}, "target is -3; it must be in"),
        ({"patience": 0}, "patience is 0; it must be at least 1"),
        ({"margin": -9}, "margin is -9; it must be in"),
    ],
)
def test_stop_at_target_refuses_what_cannot_be(settings, message):
    with pytest.raises(UsageError, match=f"StopAtTarget: {message}"):
        StopAtTarget(**settings).check(small())


@pytest.mark.parametrize(("margin", "iterations"), [(0.0, 1), (0.1, 6)])
def test_stop_at_target_waits_for_its_margin(tmp_path, monkeypatch, margin, iterations):
    monkeypatch.setattr("memsuite.callbacks.stopping.evaluated", lambda trainer: 0.55)
    module = small()
    train(module, tmp_path, StopAtTarget(target=0.5, patience=1, margin=margin), val_check_interval=1)
    assert module.iteration == iterations


def test_a_success_that_is_the_target_reaches_it(tmp_path, monkeypatch):
    # Lightning logs in single precision, where 0.9 is slightly less than 0.9.
    found = {"success": 0.9, "success_low": 0.8, "success_high": 0.95, "episodes": 10}
    found |= {"return_mean": 0.9, "return_low": 0.8, "return_high": 0.95}
    monkeypatch.setattr(MemoryPPO, "evaluate", lambda self, episodes, name: found)
    module, record = small(), RunRecord(tmp_path)
    module.preset = replace(module.preset, target_success=0.9)
    train(module, tmp_path, record, StopAtTarget(patience=1), val_check_interval=1)
    assert module.iteration == 1
    assert record.result["reached_target"]
    assert record.result["steps_to_target"] == module.env_steps


def test_samples_to_nine_in_ten_are_of_the_last_ten_rollouts(tmp_path):
    class Says(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            module.statistics["success"] = said[module.iteration - 1]

    def run(folder, steps, **where):
        callbacks = [Says(), record := RunRecord(folder), Checkpoints(folder, every=1)]
        train(small(steps=8 * 10 * steps), folder, *callbacks, **where)
        return record.result["steps_to_90_sampled"]

    said = [1.0] * 9 + [0.0, 1.0, 1.0]  # the first ten values contain nine ones
    assert run(tmp_path / "whole", 12) == 8 * 10 * 10
    said = [torch.tensor(0.9).item()] * 12
    assert run(tmp_path / "exactly", 10) == 8 * 10 * 10
    said = [0.0, 0.5] + [1.0] * 10
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert run(tmp_path / "cut", 6) is None
    assert run(tmp_path / "cut", 12, ckpt_path=last) == 8 * 10 * 11


def test_a_run_can_be_loaded_without_its_yaml(tmp_path):
    module = small()
    record = RunRecord(tmp_path)
    train(module, tmp_path, Checkpoints(tmp_path), record)
    loaded = memsuite.load(tmp_path)
    assert same_weights(module, loaded)
    assert loaded.evaluate(16, "test")["success"] == record.result["success"]
    assert loaded.env_steps == module.env_steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "delayed_que"}, "delayed_cue"),
        ({"difficulty": "hrad"}, "did you mean: hard"),
        ({"controller": "gruu"}, "did you mean: gru"),
        ({"controller": "nowhere.Mine"}, "cannot be imported"),
        ({"horizon": 1}, "the shortest is 2"),
        ({"task_args": {"cues": 2}}, "num_cues"),
        ({"task_args": {"num_cues": "two"}}, "must be a number"),
        ({"controller_args": {"hidden": 2}}, "did you mean: hidden_dim"),
        ({"controller_args": {"hidden_dim": "wide"}}, "does not take"),
        ({"steps": 79}, "the least is 80"),
        ({"num_envs": 0}, "the least is 1"),
        ({"ppo": first_recipe(minibatches=9)}, "at most num_envs = 8"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        small(**settings)


@pytest.mark.parametrize(
    ("name", "value"), [("discount", 1.1), ("epochs", 0), ("learning_rate", 0.0), ("bptt_steps", 0)]
)
def test_settings_outside_their_bounds_are_named(name, value):
    with pytest.raises(UsageError, match=f"ppo.{name} is {value}"):
        first_recipe(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("critic", "memori"), ("entropy_weighting", "unifrom")])
def test_settings_that_are_no_choice_are_named(name, value):
    with pytest.raises(UsageError, match=f"no ppo.{name} '{value}'; did you mean: "):
        first_recipe(**{name: value})


@pytest.mark.parametrize("episodes", [0, -1, 1.5])
def test_an_evaluation_without_episodes_is_refused(episodes):
    with pytest.raises(UsageError, match="whole number above 0"):
        small().evaluate(episodes, "fresh")
