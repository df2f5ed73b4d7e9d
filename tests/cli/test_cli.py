"""The command line: a command does what it says, and a mistake gives a one-line answer."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from packages import skip_without_packages

import memsuite
from memsuite.__main__ import VERBS, main
from memsuite.controllers import CONTROLLERS
from memsuite.launch.arguments import gathered
from memsuite.runs.config import nested

NAMES = """task difficulty controller seed horizon env_steps iterations success success_low success_high score chance
target_success reached_target steps_to_target wall_seconds_to_target cpu_seconds_to_target steps_to_90_sampled
steps_per_second wall_seconds cpu_seconds curriculum parameters state_floats hardware versions commit command"""
ROOT = Path(__file__).parents[2]
NO_HINT = os.environ | {"MEMSUITE_KERNELS": "off"}  # without a compiler, a hint on how to build would add a line
TINY = ["--horizon", "10", "--num_envs", "4", "--steps", "80", "--evaluation_episodes", "8", "--device", "cpu"]
TINY += ["--controller_args.hidden_dim", "8"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command inside an empty folder; return status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(line: str, *more: str) -> tuple[int, str, str]:
        status = main([*line.split(), *more])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_short_forms_mean_what_they_say(run, tmp_path):
    status, out, _ = run(
        *[
            "fit",
            "--task",
            "delayed_cue",
            "--difficulty",
            "medium",
            "--controller",
            "pseudo_mamba",
            "--seed",
            "7",
            "--out",
            "runs/x",
        ],
        *TINY,
    )
    assert status == 0
    assert "greedy success" in out
    assert "runs/x" in out
    folder = tmp_path / "runs" / "x"
    result = json.loads((folder / "result.json").read_text())
    expected = {"task": "delayed_cue", "difficulty": "medium", "controller": "pseudo_mamba", "seed": 7, "horizon": 10}
    assert expected.items() <= result.items()
    assert (result["env_steps"], result["iterations"]) == (80, 2)
    assert {p.name for p in folder.iterdir()} == {"config.yaml", "metrics.csv", "checkpoints", "log.txt", "result.json"}
    assert (folder / "checkpoints" / "last.ckpt").exists()
    assert memsuite.load(folder).task.horizon == 10


def test_result_holds_the_contract(run, tmp_path):
    run("fit --out x", *TINY)
    result = json.loads((tmp_path / "x" / "result.json").read_text())
    names = NAMES.split()
    assert set(names) <= set(result)
    assert result["command"].startswith("memsuite fit --out x")
    assert result["success_low"] <= result["success"] <= result["success_high"]


def test_files_merge_and_the_command_line_has_the_last_word(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("seed: 1\nnum_envs: 2\nmodel: {ppo: {epochs: 3, clip: 0.1}}\n")
    (tmp_path / "b.yaml").write_text("seed: 2\nmodel: {ppo: {epochs: 5}}\n")
    line = "fit --config a.yaml --config b.yaml --num_envs 9 --model.ppo.learning_rate 0.01 --print_config"
    with pytest.raises(SystemExit):
        main(line.split())
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["seed"], config["num_envs"]) == (2, 9)
    ppo = config["model"]["ppo"]
    assert (ppo["epochs"], ppo["clip"], ppo["learning_rate"]) == (5, 0.1, 0.01)


@pytest.mark.parametrize("given", ["--config a.yaml", "--model.horizon 77 --model.task_args.num_cues 4"])
def test_what_is_written_under_model_is_printed_there_too(tmp_path, monkeypatch, capsys, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("model: {horizon: 77, task_args: {num_cues: 4}}\n")
    printed = []
    for line in (given, "--config printed.yaml"):
        with pytest.raises(SystemExit):
            main(f"fit {line} --print_config".split())
        printed.append(capsys.readouterr().out)
        (tmp_path / "printed.yaml").write_text(printed[-1])
    config = yaml.safe_load(printed[0])
    for settings in (config, config["model"]):
        assert (settings["horizon"], settings["task_args"]) == (77, {"num_cues": 4})
    assert "seed" not in config["model"]
    assert printed[0] == printed[1]


def test_the_saved_config_repeats_the_run(run, tmp_path):
    run("fit --out x --model.ppo.epochs 1", *TINY)
    run("fit --config x/config.yaml --out y")
    one, other = (memsuite.load(tmp_path / name) for name in "xy")
    assert one.config == other.config
    assert all((a == b).all() for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_what_lies_within_a_mapping_keeps_its_kind_and_what_stands_beside_it(run, tmp_path):
    """Wherever it stands among the arguments, and whatever a file has in the same mapping."""
    (tmp_path / "e.yaml").write_text("task: gym:CartPole-v1\ntask_args: {env_args: {render_mode: rgb_array}}\n")
    line = "fit --config e.yaml --task_args.previous_action true --task_args.env_args.sutton_barto_reward true"
    line += " --controller_args.depth 1 --controller_args.match.parameters 3000 --horizon 9"
    status, _, err = run(f"{line} --out x --num_envs 2 --steps 36 --evaluation_episodes 2 --device cpu")
    assert status == 0, err
    config = memsuite.load(tmp_path / "x").config
    assert config.task_args == {
        "previous_action": True,
        "env_args": {"render_mode": "rgb_array", "sutton_barto_reward": True},
    }
    assert config.controller_args["depth"] == 1
    deep = ["--task_args", "{a: {b: {c: 1}}}", "--task_args.a.b.d", "2"]
    assert gathered(deep)[-1] == '--task_args.a={"b": {"c": 1, "d": 2}}'
    assert nested({"a": {"b": {"c": 1}}, "a.b.d": 2}) == {"a": {"b": {"c": 1, "d": 2}}}
    (tmp_path / "wrong.yaml").write_text("task_args: 3\n")
    status, _, err = run("fit --config wrong.yaml --task_args.env_args.n 4")
    assert status == 2
    assert "task_args" in err
    assert len(err.splitlines()) == 1
    status, _, err = run("fit --task_args.mask [1] --task_args.env_args 3 --task_args.env_args.n 4")
    assert (status, err) == (2, "memsuite fit: error: env_args is 3, so it has no 'n'; give one of the two\n")


def test_a_checkpoint_is_evaluated_without_its_config(run):
    run("fit --out x", *TINY)
    for verb in ("validate", "test"):
        status, out, err = run(f"{verb} --ckpt_path x")
        assert status == 0, err
        assert out.startswith(f"{verb}: greedy success")
        short = {"validate": "val"}.get(verb, verb)
        status, _, err = run(f"{verb} --ckpt_path x --trainer.limit_{short}_batches 0")
        assert (status, err) == (
            2,
            f"memsuite {verb}: error: nothing was evaluated: trainer.limit_{short}_batches leaves none\n",
        )


def test_a_finished_run_without_its_checkpoint_says_what_helps(run, tmp_path):
    run("fit --out x", *TINY)
    shutil.rmtree(tmp_path / "x" / "checkpoints")
    status, _, err = run("fit --ckpt_path last --out x --steps 160")
    assert status == 2
    assert "x holds a finished run without a checkpoint to go on from; --overwrite begins anew there" in err
    assert len(err.splitlines()) == 1


def test_a_folder_whose_name_is_no_text_is_refused(run, tmp_path):
    """Tables name the folder of a run; the result could be written, and then be read by nothing."""
    status, _, err = run(f"fit --out {os.fsdecode(bytes([98, 252]))}", *TINY)
    assert (status, list(tmp_path.iterdir())) == (2, [])
    assert err == "memsuite fit: error: the name 'b\\udcfc' is no text, which tables need; use another --out\n"


def test_test_repeats_the_recorded_success(run, tmp_path):
    run("fit --out x", *TINY)
    result = json.loads((tmp_path / "x" / "result.json").read_text())
    _, out, _ = run("test --ckpt_path x/checkpoints/last.ckpt")
    assert f"greedy success {result['success']:.3f}" in out


def test_last_goes_on_with_the_runs_own_settings(run, tmp_path):
    run("fit --out x --seed 5", *TINY)
    before = (tmp_path / "x" / "metrics.csv").read_text().splitlines()
    status, _, err = run("fit --ckpt_path last --out x --steps 160")
    assert status == 0, err
    result = json.loads((tmp_path / "x" / "result.json").read_text())
    assert (result["env_steps"], result["seed"], result["horizon"]) == (160, 5, 10)
    assert (tmp_path / "x" / "metrics.csv").read_text().splitlines()[:2] == before[:2]


def test_a_folder_that_holds_a_run_is_refused(run, tmp_path):
    run("fit --out x", *TINY)
    before = (tmp_path / "x" / "result.json").read_text()
    status, _, err = run("fit --out x", *TINY)
    assert status == 2
    assert "already holds a run" in err
    assert (tmp_path / "x" / "result.json").read_text() == before
    assert run("fit --out x --overwrite", *TINY)[0] == 0


def test_a_complete_run_is_only_evaluated_again(run, tmp_path):
    run("fit --out x", *TINY)
    before = json.loads((tmp_path / "x" / "result.json").read_text())
    assert run("fit --ckpt_path last --out x")[0] == 0
    after = json.loads((tmp_path / "x" / "result.json").read_text())
    assert [after[name] for name in ("env_steps", "success")] == [before[name] for name in ("env_steps", "success")]


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("precision", ["64", "bf16-mixed"])
def test_other_precisions_train(run, precision, controller):
    status, _, err = run(f"fit --out x --controller {controller} --trainer.precision {precision}", *TINY)
    assert status == 0, err


@pytest.mark.parametrize("logger", ["TensorBoardLogger", "CSVLogger"])
def test_more_loggers_by_config(run, tmp_path, logger):
    given = f'[{{"class_path": "lightning.pytorch.loggers.{logger}", "init_args": {{"save_dir": "more"}}}}]'
    assert run("fit", "--out", "x", f"--trainer.logger={given}", *TINY)[0] == 0
    if logger == "TensorBoardLogger":  # in the run folder, so that tensorboard --logdir runs shows the runs' names
        assert [path.parent for path in tmp_path.rglob("*events*")] == [tmp_path / "x" / "more"]
    else:
        assert list((tmp_path / "more").rglob("metrics.csv"))
    assert (tmp_path / "x" / "metrics.csv").exists()


def test_a_run_that_lightning_leaves_no_iteration_says_so(run):
    status, _, err = run("fit --out x --trainer.max_time 00:00:00:00", *TINY)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "nothing was trained" in err


@pytest.mark.parametrize("given", ["--steps 2e4 --horizon 1e2", "--config short.yaml", "--steps 20000 --horizon 100"])
def test_a_large_number_may_be_written_short(tmp_path, monkeypatch, capsys, given):
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text("steps: 2e4\nhorizon: 1e2\n")
    with pytest.raises(SystemExit):
        main(f"fit {given} --num_envs 1_6 --evaluation_episodes 1e1 --print_config".split())
    config = yaml.safe_load(capsys.readouterr().out)
    found = [config[name] for name in ("steps", "horizon", "num_envs", "evaluation_episodes")]
    assert found == [20_000, 100, 16, 10]
    assert {type(value) for value in found} == {int}


MISTAKES = {
    "fit --task delyed_cue": "delayed_cue",
    "fit --difficulty medum": "medium",
    "fit --controller grru": "gru",
    "fit --horizon 1": "shortest is 2",
    "fit --horizon ten": "horizon: 'ten' is not a whole number",
    "fit --horizon 1e-3": "horizon: '1e-3' is not a whole number above 0 or null",
    "fit --steps 10": "the least is",
    "fit --steps 1e99999999": "steps: '1e99999999' is not a whole number above 0 or null",
    "fit --num_envs 2.5": "num_envs: '2.5' is not a whole number above 0",
    "fit --num_envs true": "num_envs: 'true' is not a whole number above 0",
    "fit --steps -5": "above 0",
    "fit --num_envs 0": "above 0",
    "fit --modle.ppo.epochs 3": "--model.ppo.epochs",
    "fit --model.ppo.epoch 3": "--model.ppo.epochs",
    "fit --model.ppo.epochs many": "model.ppo.epochs",
    "fit --model.ppo.discount 2": "between 0 and 1",
    "fit --trainer.max_epoch 3": "trainer.max_epochs",
    "fit --task_args.num_cue 4": "num_cues",
    "fit --controller_args.hiden_dim 4": "hidden_dim",
    "fit --controller nowhere.Mine": "cannot be imported",
    "fit --config missing.yaml": "missing.yaml",
    "fit --config list.yaml": "holds no settings",
    "fit --config broken.yaml": "is not YAML",
    "fit --config latin.yaml": "latin.yaml is not in UTF-8 (byte 8 is 0xe9); save it in that encoding",
    "fit --config unknown.yaml": "no key 'taks'; did you mean: task",
    "fit --config empty_unknown.yaml": "no key 'modell'",
    "fit --config nested.yaml": "model.ppo.learning_rate",
    "fit --trainer.precision 16-mixed": "trainer.precision is 16-mixed; it must be one of 32-true, 64-true, bf16-mixed",
    "fit --trainer.precision bf16-true": "one of 32-true",
    "fit --trainer.precision 8": "'8' is not 64, 32",
    "fit --trainer.max_steps 3": "use --steps",
    "fit --trainer.min_steps 3": "use --steps",
    "suite basic_v1 --dry_run --set seed=0,0": "--set seed=0,0: 0 is given twice",
    "suite basic_v1 --dry_run --set name=other": "name is no setting of a run; change it in the file",
    "fit --controller mamba --controller_args.mlp_ratio 1e300": "does not take",
    "fit --trainer.limit_train_batches 2": "is not how a run is told this here; use --steps",
    "fit --trainer.fast_dev_run true": "use --steps",
    "fit --trainer.overfit_batches 2": "use --steps",
    "fit --trainer.logger true": "other loggers are named by class",
    "fit --trainer.accelerator tpu": "torch_xla",
    "fit --wandb_mode of": "offline",
    "fit --device gpu": "no device 'gpu'",
    "fit --ckpt_path last": "--out",
    "fit --init_from nowhere": "no checkpoint at nowhere",
    "fit --init_from list.yaml": "not a whole memsuite checkpoint",
    "fit --ckpt_path nothing.ckpt": "no checkpoint",
    "fit --ckpt_path list.yaml": "not a whole memsuite checkpoint",
    "fit --out list.yaml/x": "cannot write",
    "fit --horizon 70 --task_args.horizon 60": "horizon is 70, and task_args.horizon 60; give one of them",
    "fit --task gym:CartPole-v1 --task_args.mask 1": "mask is 1; it must be a list, as [1]",
    "fit --task gym:CartPole-v1 --task_args.mask [1.5]": "mask is [1.5]; it must be a list of whole numbers",
    "fit --task gym:CartPole-v1 --task_args.keys 3": "keys is 3; it must be a list",
    "fit --task gym:CartPole-v1 --task_args.env_args 3": "env_args is 3; it must be a mapping",
    "fit --task gym:CartPole-v1 --task_args.horizon 0": "horizon is 0; it must be a whole number above 0",
    "submit --check nothing.json": "cannot read nothing.json: No such file or directory",
    "validate": "--ckpt_path",
    "fiit": "did you mean: fit",
    "controllers --jso": "--json",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path, line):
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("task: [delayed_cue\n")
    (tmp_path / "latin.yaml").write_bytes("task: d\xe9lay".encode("latin-1"))
    (tmp_path / "unknown.yaml").write_text("taks: delayed_cue\n")
    (tmp_path / "empty_unknown.yaml").write_text("modell: {}\n")
    (tmp_path / "nested.yaml").write_text("model: {ppo: {learning_rat: 0.1}}\n")
    before = sorted(tmp_path.rglob("*"))
    status, _, err = run(line)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert MISTAKES[line] in err
    assert sorted(tmp_path.rglob("*")) == before


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        began = time.perf_counter()
        out = subprocess.run([sys.executable, "-m", "memsuite", "--help"], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5
    assert all(verb in out.stdout for verb in VERBS)


def test_a_mistake_sets_the_process_status():
    command = [sys.executable, "-m", "memsuite", "fit", "--task", "delyed_cue"]
    out = subprocess.run(command, capture_output=True, text=True, check=False, env=NO_HINT)
    assert out.returncode == 2
    assert "Traceback" not in out.stderr
    assert len(out.stderr.splitlines()) == 1


def test_controllers_table(run):
    status, out, _ = run("controllers --json --hidden_dim 32 --horizons 50,200")
    assert status == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["gru"]["state_floats"] == 32
    assert rows["gru"]["parameters"] == 3 * 32 * (17 + 32 + 2)
    assert all("cpu" in row["devices"] for row in rows.values())
    assert run("controllers --horizons none")[0] == 0


CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "suites")  # no runs


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_runs(run, tmp_path, path):
    skip_without_packages(path)
    longer = ["--horizon", "60"] if path.stem == "curriculum" else []  # the curriculum begins at 50
    status, _, err = run(f"fit --config {path} --out x --model.ppo.rollout_length 10", *TINY, *longer)
    assert status == 0, err
