"""A mistake in a suite, or in its command line, gives one line with status 2, and leaves no files behind."""

import shlex
import sys

import pytest
from one_line import answer_in

# The content of the file, and the words that the answer must contain. These are found before anything is imported.
FILES = {
    "": "holds no settings",
    "null": "holds no settings",
    "just words": "holds no settings",
    "[1, 2]": "holds no settings",
    "a: &a [*a]": "no key 'a'",
    "\tx: 1": "not YAML",
    "settings: &a {model: *a}": "not a plain value",
    "settings: {task_args.x: {2020-01-01: 1}}": "not a plain value",
    "grid: {seed: [1]}\ngrid: {seed: [2]}": "second time",
    "gird: {seed: [1]}": "no key 'gird'; did you mean: grid",
    "grid: {}\nentries: []": "the grid is empty",
    "grid: {seed: []}": "grid.seed has no values",
    "grid: {seed: 3}": "must be a list",
    "grid: [seed]": "grid holds ['seed']",
    "grid: {seed: [1, 1]}": "two runs have the id",
    "entries: {task: n_back}": "must be a list",
    "entries: [n_back]": "must hold settings",
    "entries: [{seed: 1}, {seed: 1}]": "two runs have the id delayed_cue-medium/gru/seed1",
    "settings: [1]": "must hold settings",
    "settings: {out: x}": "out is set by the suite itself",
    "settings: {ckpt_path: last}": "ckpt_path is set by the suite itself",
    "config: nowhere.yaml": "cannot read the configuration nowhere.yaml",
    "config: [3]": "must be a file",
    "grid: {controller_args: [{depth: 1}], controller_args.depth: [2]}": "controller_args.depth is 1 by one axis and 2",
    "name: ../up": "cannot be a folder's name",
    "overrides: [{wehn: {seed: 0}, settings: {steps: 1}}]": "did you mean: when",
    "overrides: [{when: {seed: 7}, settings: {steps: 1}}]": "entry 1 of overrides matches no run",
    "exclude: [{controller: mabma}]": "entry 1 of exclude matches no run",
    "exclude: [{seed: 0}]": "the grid is empty",
}
# Mistakes that `memsuite fit` would report about a run.
RUNS = {
    "settings: {nmu_envs: 4}": "no setting 'nmu_envs'; did you mean: num_envs",
    "entries: [{task: n_back, gird: {seed: [1]}}]": "no setting 'gird'; did you mean: grid",
    "grid: {task: [delayed_cue, delyed_cue]}": "delyed_cue-medium/gru/seed0: no task 'delyed_cue'; did you mean: d",
    "grid: {controller: [gru, mabma]}": "no controller 'mabma'; did you mean: mamba",
    "grid: {difficulty: [medum]}": "no difficulty 'medum'; did you mean: medium",
    "grid: {horizon: [200, 1]}": "delayed_cue-medium-H1/gru/seed0",
    "settings: {steps: 10}": "steps is 10, less than one iteration",
    "settings: {steps: many}": "steps",
    "settings: {seed: -1}": "seed is -1",
    "grid: {seed: [0, 1.5]}": "seed",
    "settings: {controller_args: {hidden_dmi: 3}}": "did you mean: hidden_dim",
    "settings: {model.ppo.lerning_rate: 3}": "learning_rate",
    "settings: {trainer: {max_epochs: 3}}": "--steps",
    "settings: {trainer: 2020-01-01}": "trainer",
    "settings: {model: null}": "model",
    "settings: {controller_args: 3}": "controller_args: '3' is not a mapping or null",
}
LINES = {
    "suite": "file",
    "suite nowhere.yaml": "cannot read the suite nowhere.yaml",
    "suite folder": "cannot read",
    "suite good.yaml --jobs 0": "--jobs is 0; the least is 1",
    "suite good.yaml --jobs two": "two",
    "suite good.yaml --launcher rya": "ray",
    "suite good.yaml --only delayed_cue-medium/gru/seed9": "delayed_cue-medium/gru/seed0",
    "suite good.yaml --nope": "--nope",
    "suite good.yaml --out good.yaml": "cannot make the folder good.yaml: good.yaml is a file",
    "suite good.yaml --out good.yaml/x": "cannot make the folder good.yaml/x: good.yaml is a file",
    "suite good.yaml --ray num_cpus=1": "--ray is a setting of --launcher ray, which was not given",
    "suite good.yaml --launcher ray --slurm cluster=local": "--slurm is a setting of --launcher submitit",
    "suite good.yaml --set nothing=3": "good.yaml with --set nothing=3: no setting 'nothing'",
    "suite good.yaml --set controller=gru,gruu": "with --set controller=gru,gruu: delayed_cue-medium/gruu/seed0",
    "siute good.yaml": "did you mean: suite",
}


@pytest.fixture
def answer(tmp_path, monkeypatch, capfd):
    """Return the one line that answers a mistaken command, after a check that no files were left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "good.yaml").write_text("grid: {seed: [0, 1]}")

    return answer_in(tmp_path, lambda: capfd.readouterr().err)


@pytest.mark.parametrize("content", [*FILES, *RUNS])
def test_a_file(answer, tmp_path, content):
    (tmp_path / "s.yaml").write_text(content)
    said = answer("suite", "s.yaml")
    assert (FILES | RUNS)[content] in said
    assert "s.yaml" in said or "nowhere" in said


@pytest.mark.parametrize("line", LINES)
def test_a_line(answer, line):
    assert LINES[line] in answer(*shlex.split(line))


@pytest.mark.parametrize(("launcher", "package", "extra"), [("ray", "ray", "ray"), ("submitit", "submitit", "slurm")])
def test_a_launcher_that_is_not_installed(answer, monkeypatch, launcher, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"memsuite.suite.{extra}", raising=False)
    assert f"pip install 'memsuite-rl[{extra}]'" in answer("suite", "good.yaml", "--launcher", launcher)


@pytest.mark.parametrize(
    "line", ["--launcher ray --ray nmu_cpus=1", "--launcher ray --ray num_cpus", "--launcher ray --ray num_cpus={"]
)
def test_a_setting_of_ray(answer, line):
    pytest.importorskip("ray", reason="needs memsuite-rl[ray]")
    assert "num_cpus" in answer("suite", "good.yaml", *line.split())


@pytest.mark.parametrize("setting", ["slurm_partitoin=gpu", "timeout_min=soon"])
def test_a_setting_of_slurm(answer, setting):
    pytest.importorskip("submitit", reason="needs memsuite-rl[slurm]")
    said = answer("suite", "good.yaml", "--launcher", "submitit", "--slurm", setting, "--slurm", "cluster=local")
    assert setting.split("=")[0] in said
