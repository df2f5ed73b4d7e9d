"""The curriculum: it grows as specified, counts true steps, resumes with the same bits, and is always recorded."""

import csv
import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
from first_recipe import first_recipe
from same_run import assert_same, end_state
from test_module import same_weights, small, train

import memsuite
from memsuite.__main__ import main
from memsuite.analysis.results import read_results
from memsuite.callbacks import Checkpoints, Curriculum, RunRecord
from memsuite.errors import UsageError
from memsuite.launch.trainer import quiet_lightning

STEPS = 8 * (3 + 6 + 10 * 4)  # one iteration at 3 steps, one at 6, four at 10


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


class Says(pl.Callback):
    """Replaces the success of each rollout by a given one."""

    def __init__(self, *successes: float) -> None:
        self.successes = successes

    def on_train_batch_end(self, trainer, module, *_):
        module.statistics["success"] = self.successes[min(module.iteration, len(self.successes)) - 1]


class Kill(pl.Callback):
    """Ends a run in the middle; only earlier checkpoints exist."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_train_batch_end(self, trainer, module, *_):
        if module.iteration == self.iteration:
            raise RuntimeError("killed")


def metrics(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def trained(folder, name: str) -> list[str]:
    return [row[name] for row in metrics(folder) if row["success"]]


def test_it_grows_and_counts_true_steps(tmp_path):
    module = small(steps=8 * 10 * 5)
    train(module, tmp_path, Says(0.2, 0.9, 0.95), Curriculum(3, factor=2, success=0.9), val_check_interval=2)
    assert trained(tmp_path, "training_horizon") == ["3", "3", "6", "10", "10", "10"]
    assert trained(tmp_path, "env_steps") == [str(8 * steps) for steps in (3, 6, 12, 22, 32, 42)]
    assert (module.iteration, module.env_steps, module.course.iterations) == (6, 8 * 42, 6)  # a seventh would be 416
    stages = module.course.curriculum["stages"]
    assert stages == [{"horizon": h, "env_steps": 8 * s} for h, s in ((3, 0), (6, 6), (10, 12))]
    assert module.task.horizon == 10
    assert module.evaluate(4, "test")["episodes"] == 4


def test_evaluations_are_as_many_environment_steps_apart_at_every_stage(tmp_path):
    says = Says(*[0.0] * 14, 1.0)
    train(small(steps=8 * 10 * 8), tmp_path, says, Curriculum(2, factor=5), val_check_interval=2)
    rows = [(row["iteration"], row["env_steps"]) for row in metrics(tmp_path) if row["evaluation_success"]]
    assert rows == [("10", "160"), ("16", "320"), ("18", "480"), ("20", "640")]


def test_it_waits_for_as_many_rollouts_in_a_row_as_asked_and_not_for_rounding(tmp_path):
    nine_of_ten = 0.8999999761581421  # in single precision
    says = Says(nine_of_ten, 0.8, nine_of_ten, float("nan"), nine_of_ten, 0.0)
    train(small(), tmp_path, says, Curriculum(3, factor=1.5, patience=2))
    assert trained(tmp_path, "training_horizon")[:7] == ["3", "3", "3", "3", "3", "4", "4"]


def test_a_size_grows_too(tmp_path):
    module = small(task="copy_memory", horizon=30, steps=8 * 30 * 4)
    train(module, tmp_path, Says(1.0), Curriculum(2, factor=3, argument="seq_len"))
    assert trained(tmp_path, "training_seq_len") == ["2", "6", "10", "10"]
    assert trained(tmp_path, "env_steps") == [str(8 * 30 * i) for i in (1, 2, 3, 4)]


def test_the_learning_rate_falls_with_steps(tmp_path):
    rates = []

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    ppo = first_recipe(epochs=1, learning_rate=3e-3)
    train(small(steps=8 * 10 * 2, ppo=ppo), tmp_path, Says(1.0), Rates(), Curriculum(5))
    assert rates == pytest.approx([3e-3, 3e-3 * (1 - 40 / 160)])


@pytest.mark.parametrize("task", ["delayed_cue", "distractor_nav"], ids=["scripted", "stepped"])
@pytest.mark.parametrize("killed_at", [2, 3, 5])
def test_resumed_equals_undisturbed_bit_for_bit(tmp_path, task, killed_at):
    horizon = {"delayed_cue": 10, "distractor_nav": 40}[task]

    def run(folder, *more, **where):
        module = small(task=task, horizon=horizon, steps=8 * horizon * 4)
        says = Says(0.0, 1.0, 0.0, 1.0, 0.0)
        callbacks = [says, Curriculum(horizon // 2, factor=1.5), *more, Checkpoints(folder, every=1), RunRecord(folder)]
        train(module, folder, *callbacks, **where)
        return module

    whole = run(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", Kill(killed_at))
    resumed = run(tmp_path / "cut", ckpt_path=tmp_path / "cut" / "checkpoints" / "last.ckpt")
    assert same_weights(whole, resumed)
    assert len(whole.course.curriculum["stages"]) == 3
    assert_same(end_state(tmp_path / "whole"), end_state(tmp_path / "cut"))
    assert memsuite.load(tmp_path / "cut").env_steps == whole.env_steps


def test_results_are_marked(tmp_path):
    for name, callbacks in {"with": [Curriculum(4, success=0.5)], "without": []}.items():
        record = RunRecord(tmp_path / name)
        train(small(), tmp_path / name, *callbacks, record)
        found = json.loads((tmp_path / name / "result.json").read_text())["curriculum"]
        assert found == record.result["curriculum"]
    table = read_results(tmp_path).set_index("folder")["variant"]
    assert "curriculum=horizon from 4 x 2" in table[str(tmp_path / "with")]
    assert "curriculum" not in table[str(tmp_path / "without")]
    found = json.loads((tmp_path / "with" / "result.json").read_text())["curriculum"]
    expected = {"argument": "horizon", "start": 4, "factor": 2.0, "success": 0.5, "patience": 1}
    assert found == expected | {"stages": found["stages"]}
    assert found["stages"][0] == {"horizon": 4, "env_steps": 0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 10}, "start is 10; it must be below the task's horizon, 10"),
        ({"start": 0}, "start is 0; it must be at least 1"),
        ({"start": 1}, "the shortest is 2"),
        ({"start": 5, "factor": 1.0}, "factor is 1.0; it must be above 1"),
        ({"start": 5, "success": 1.5}, "success is 1.5; it must be above 0 and at most 1"),
        ({"start": 5, "patience": 0}, "patience is 0; it must be at least 1"),
        ({"start": 5, "argument": "horizn"}, "did you mean: horizon"),
        ({"start": 5, "argument": "noise"}, "only whole numbers"),
        ({"start": 8, "argument": "vocabulary"}, "changes the observations"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        Curriculum(**settings).stages(small())


def test_a_run_gets_no_curriculum_on_the_way(tmp_path):
    train(small(), tmp_path, Checkpoints(tmp_path))
    with pytest.raises(UsageError, match="without a Curriculum"):
        train(small(steps=1000), tmp_path, Curriculum(5), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")


CONFIG = (Path(__file__).parents[2] / "configs" / "trainer" / "curriculum.yaml").read_text()


def test_it_is_asked_for_in_yaml_and_a_mistake_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = "--horizon 10 --num_envs 4 --steps 200 --evaluation_episodes 8 --device cpu --controller_args.hidden_dim 8"
    for start in (4, 12, 0):
        (tmp_path / f"{start}.yaml").write_text(CONFIG.replace("start: 50", f"start: {start}"))
    for start, said in ((12, "below the task's horizon, 10"), (0, "at least 1")):
        assert main(["fit", "--config", f"{start}.yaml", "--out", "x", *tiny.split()]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
        assert not (tmp_path / "x").exists()
    assert main(["fit", "--config", "4.yaml", "--out", "x", *tiny.split()]) == 0
    result = json.loads((tmp_path / "x" / "result.json").read_text())
    assert result["curriculum"]["start"] == 4
    assert main(["fit", "--ckpt_path", "last", "--out", "x", "--steps", "400"]) == 0
    again = json.loads((tmp_path / "x" / "result.json").read_text())
    assert again["curriculum"]["stages"][0] == {"horizon": 4, "env_steps": 0}
    assert again["env_steps"] > result["env_steps"]


def test_a_run_with_a_horizon_from_the_command_line_reaches_it_and_goes_on(tmp_path, monkeypatch, capsys):
    """What the command line reads a number as must not reach a checkpoint, which holds plain values alone."""
    monkeypatch.chdir(tmp_path)
    tiny = "--horizon 10 --num_envs 4 --evaluation_episodes 8 --device cpu --controller_args.hidden_dim 8"
    eager = CONFIG.replace("start: 50", "start: 5").replace("success: 0.9", "success: 0.0001")
    (tmp_path / "eager.yaml").write_text(eager)
    assert main(["fit", "--config", "eager.yaml", "--out", "x", "--steps", "2000", *tiny.split()]) == 0
    stages = json.loads((tmp_path / "x" / "result.json").read_text())["curriculum"]["stages"]
    assert [one["horizon"] for one in stages] == [5, 10]
    more = ["--ckpt_path", "last", "--out", "x", "--steps", "4000"]
    before = (tmp_path / "x" / "config.yaml").read_text()
    for callbacks in ("[]", "[memsuite.callbacks.StopAtTarget]"):
        capsys.readouterr()
        assert main(["fit", *more, "--trainer.callbacks", callbacks]) == 2
        assert "which is not among trainer.callbacks" in capsys.readouterr().err
    assert (tmp_path / "x" / "config.yaml").read_text() == before
    assert main(["fit", *more]) == 0
    assert memsuite.load(tmp_path / "x").task.horizon == 10


@pytest.mark.parametrize("other", [{"start": 4}, {"factor": 8}, {"success": 0.1}, {"patience": 7}])
def test_a_curriculum_is_not_changed_on_the_way(tmp_path, other):
    train(small(), tmp_path, Curriculum(5), Checkpoints(tmp_path))
    name = next(iter(other))
    with pytest.raises(UsageError, match=f"Curriculum: {name} is .* in the checkpoint"):
        train(
            small(steps=1000),
            tmp_path,
            Curriculum(**{"start": 5, **other}),
            ckpt_path=tmp_path / "checkpoints" / "last.ckpt",
        )
