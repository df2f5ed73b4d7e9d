"""A run that cannot continue ends with one line that gives the reason and the remedy, and keeps its last checkpoint."""

import json
import os
import resource
import signal

import pytest
import torch

import memsuite
from memsuite import files, module, storage
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.launch import folder as run_folder
from memsuite.runs.checkpoints import newest_whole, read_checkpoint

TINY = ["--horizon", "10", "--num_envs", "4", "--steps", "240", "--evaluation_episodes", "8", "--device", "cpu"]
TINY += ["--controller_args.hidden_dim", "8", "--checkpoint_every", "2"]


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def call(line: str, *more: str) -> tuple[int, str]:
        status = main([*line.split(), *more])
        return status, capfd.readouterr().err

    return call


@pytest.fixture
def finished(run, tmp_path):
    assert run("fit --out x --model.ppo.draws 1 --model.ppo.minibatches 2", *TINY)[0] == 0
    return tmp_path / "x"


def iteration_of(path) -> int:
    return torch.load(path, weights_only=True)["memsuite"]["iteration"]


def test_updates_that_are_never_finite_end_the_run(run, tmp_path):
    bad = "--model.ppo.draws 1 --model.ppo.reward_scale 1e39 --model.ppo.max_skipped_updates 4"
    status, err = run(f"fit --out x {bad}", *TINY)
    assert status == 1
    lines = err.strip().splitlines()
    assert "Traceback" not in err
    assert "4 updates in a row" in lines[-1]
    assert "start again with" in lines[-1]  # none of its updates was good, so none was saved
    assert not (tmp_path / "x" / "result.json").exists()


def test_the_last_good_checkpoint_is_kept(run, finished, monkeypatch):
    before = (finished / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.nan))
    status, err = run("fit --ckpt_path last --out x --steps 4000 --checkpoint_every 1")
    assert status == 1
    assert err.strip().splitlines()[-1].endswith("go on with: memsuite fit --ckpt_path last --out x")
    assert (finished / "checkpoints" / "last.ckpt").read_bytes() == before


def test_the_result_counts_skipped_updates(finished):
    assert json.loads((finished / "result.json").read_text())["skipped_updates"] == 0


def test_the_checkpoint_before_the_last_is_kept_whole(finished):
    last, previous = (finished / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    assert (iteration_of(last), iteration_of(previous)) == (6, 4)
    assert last.stat().st_nlink == previous.stat().st_nlink == 1


def test_no_hard_links_is_no_hindrance(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "link", lambda *_: (_ for _ in ()).throw(OSError("not here")))
    for content in (b"1", b"2"):
        files.write_atomically(tmp_path / "a", lambda file, content=content: file.write(content), tmp_path / "b")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"2", b"1")


def test_a_checkpoint_cut_short_anywhere_is_refused_and_the_one_before_it_offered(finished):
    last = finished / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    for size in sorted({*range(0, len(whole), 331), *range(len(whole) - 40, len(whole))}):
        last.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"not a whole.*the one before it is whole: .*previous\.ckpt") as error:
            read_checkpoint(last)
        assert "\n" not in str(error.value)
        assert newest_whole(finished).name == "previous.ckpt"


class Harmful:
    """Unpickled, it would write a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickled_object_is_refused_and_not_run(run, finished, tmp_path):
    last = finished / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["memsuite"]["run"]["state"] = Harmful(tmp_path / "harm")
    torch.save(content, last)
    status, err = run(f"fit --ckpt_path {last} --steps 480")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "not a whole memsuite checkpoint" in err
    assert "previous.ckpt" in err
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(run, finished):
    for name in ("last.ckpt", "previous.ckpt"):
        content = torch.load(finished / "checkpoints" / name, weights_only=True)
        content["memsuite"]["run"] = content["memsuite"]["run"]["ranks"][0]  # an early format, of one process
        torch.save(content, finished / "checkpoints" / name)
    before = (finished / "metrics.csv").read_bytes()
    status, err = run("fit --ckpt_path last --out x --steps 480")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "earlier version of memsuite" in err
    assert (finished / "metrics.csv").read_bytes() == before
    assert memsuite.load(finished).iteration == 6


def test_last_takes_the_newest_whole_one_and_says_so(run, finished, caplog):
    last = finished / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    before = (finished / "metrics.csv").read_bytes()
    assert run("fit --ckpt_path last --out x")[0] == 0
    (line,) = [record.getMessage() for record in caplog.records if "not a whole" in record.getMessage()]
    assert "going on from the one before it, x/checkpoints/previous.ckpt" in line
    assert iteration_of(last) == 6
    assert (finished / "metrics.csv").read_bytes() == before
    assert memsuite.load(finished).iteration == 6


def test_a_torn_one_never_takes_the_place_of_a_whole_one(run, finished, monkeypatch):
    last = finished / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    with monkeypatch.context() as context:
        context.setattr(storage.torch, "save", full)
        assert run("fit --ckpt_path last --out x")[0] == 1
    assert {path.name: iteration_of(path) for path in last.parent.iterdir()} == {"last.ckpt": 4, "previous.ckpt": 4}
    assert run("fit --ckpt_path last --out x")[0] == 0
    assert {path.name: iteration_of(path) for path in last.parent.iterdir()} == {"last.ckpt": 6, "previous.ckpt": 4}


def test_two_broken_checkpoints_are_one_line(run, finished):
    for name in ("last.ckpt", "previous.ckpt"):
        (finished / "checkpoints" / name).write_bytes(b"PK")
    status, err = run("fit --ckpt_path last --out x")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "no whole one" in err


def test_a_full_disk_is_told_before_training(run, tmp_path, monkeypatch):
    usage = run_folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    status, err = run("fit --out x", *TINY)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "x has 1 MB of free space" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "log.txt", "checkpoints"])
def test_what_cannot_be_written_is_told_before_training(run, tmp_path, name):
    (tmp_path / "x").mkdir()
    if name == "checkpoints":
        (tmp_path / "x" / name).write_text("a file")
    else:
        (tmp_path / "x" / name).mkdir()
    status, err = run("fit --out x --overwrite", *TINY)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "cannot write" in err
    assert [path.name for path in (tmp_path / "x").iterdir()] == [name]


def full(content, file):
    file.write(b"PK" + bytes(1000))
    raise OSError(28, "No space left on device")


def test_a_disk_that_fills_up_in_mid_run_keeps_the_last_checkpoint(run, finished, monkeypatch):
    before = (finished / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr(storage.torch, "save", full)
    status, err = run("fit --ckpt_path last --out x --steps 480")
    assert status == 1
    assert err.strip().splitlines()[-1] == (
        "memsuite fit: cannot write into x: No space left on device; go on with: memsuite fit --ckpt_path last --out x"
    )
    assert "Traceback" not in err
    assert (finished / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list(finished.rglob(".*"))


def test_a_write_the_kernel_refuses_is_an_error_of_the_disk(tmp_path):
    """PyTorch's archive writer raises errors of its own; the error of the disk must be reported."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            storage.AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(100_000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--num_envs 8", "num_envs is 4 in the checkpoint, not 8"),
        ("--controller lstm", "controller is gru in the checkpoint, not lstm"),
        ("--task copy_memory", "task is delayed_cue in the checkpoint, not copy_memory"),
        ("--controller_args.hidden_dim 16", "controller_args"),
        ("--horizon 12", "horizon is 10"),
        ("--model.ppo.rollout_length 5", "rollout_length"),
        ("--model.ppo.learning_rate 0.5", "model.ppo.learning_rate is "),
        ("--model.ppo.discount 0.5 --steps 480", "model.ppo.discount"),
        ("--model.ppo.minibatches 1", "model.ppo.minibatches"),
        ("--init_from x", "init_from"),
        ("--steps 80", "steps is 80, but the run has made 240 already"),
    ],
)
def test_another_run_is_not_gone_on_with(run, finished, change, named):
    before = sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*"))
    status, err = run(f"fit --ckpt_path last --out x {change}")
    assert (status, len(err.splitlines())) == (2, 1)
    assert named in err
    assert sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*")) == before


@pytest.mark.parametrize("change", ["--task copy_memory", "--controller lstm"])
def test_an_agent_is_not_evaluated_as_another(run, finished, change):
    status, err = run(f"test --ckpt_path x {change}")
    assert (status, len(err.splitlines())) == (2, 1)
    assert f"in the checkpoint, not {change.split()[1]}; leave it out" in err


def test_a_checkpoint_of_another_folder_does_not_open_one_that_holds_a_run(run, finished, tmp_path):
    assert run("fit --out y", *TINY)[0] == 0
    status, err = run("fit --ckpt_path x --out y --steps 480")
    assert status == 2
    assert "already holds a run" in err
    assert run("fit --ckpt_path x --out z --steps 480")[0] == 0
    assert iteration_of(tmp_path / "z" / "checkpoints" / "last.ckpt") == 12
    assert run("fit --ckpt_path x --steps 480")[0] == 0  # without --out the run continues in its own folder
    assert iteration_of(finished / "checkpoints" / "last.ckpt") == 12


def test_last_without_a_checkpoint_begins_anew_with_the_runs_own_settings(run, finished, caplog):
    for name in ("checkpoints/last.ckpt", "checkpoints/previous.ckpt", "result.json"):
        (finished / name).unlink()
    assert run("fit --ckpt_path last --out x")[0] == 0
    assert "x holds no checkpoint yet: starting from the beginning" in caplog.text
    assert memsuite.load(finished).env_steps == 240


@pytest.mark.parametrize("held", [[], ["log.txt"], ["log.txt", "source/mine.py"]])
def test_last_begins_no_run_whose_settings_nobody_gave(run, tmp_path, held):
    """A wrong --out, or a run that was killed before it could write its settings."""
    for name in held:
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("")
    for more in ("", "--device cpu", "--trust --checkpoint_every=5"):
        status, err = run(f"fit --ckpt_path last --out x {more}")
        assert (status, len(err.splitlines())) == (2, 1)
        assert "x holds no settings of a run to go on with: correct --out" in err
    assert sorted(str(path.relative_to(tmp_path / "x")) for path in (tmp_path / "x").rglob("*.*")) == sorted(held)


def test_the_result_names_what_started_the_run_and_what_extended_it(run, finished):
    begun = json.loads((finished / "result.json").read_text())["command"]
    assert run("fit --ckpt_path last --out x")[0] == 0  # as after a kill: nothing else was asked for
    assert json.loads((finished / "result.json").read_text())["command"] == begun
    assert run("fit --ckpt_path last --out x --steps 480")[0] == 0
    made = json.loads((finished / "result.json").read_text())["command"]
    assert made == f"{begun} && memsuite fit --ckpt_path last --out x --steps 480"


def test_a_run_from_before_a_setting_existed_is_gone_on_with(run, finished):
    file = finished / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["memsuite"]["config"]["ppo"]["gradient_clip"]
    checkpoint["memsuite"]["config"]["task_args"].pop("reveal", None)
    torch.save(checkpoint, file)
    status, err = run("fit --ckpt_path last --out x --steps 480")
    assert status == 0, err


def test_a_torn_last_row_is_dropped(tmp_path):
    (tmp_path / "metrics.csv").write_text("env_steps,a\n10,1\n20,2\n1")
    logger = storage.MetricsCSV(tmp_path)
    logger.rewind(20)
    assert (tmp_path / "metrics.csv").read_bytes() == b"env_steps,a\r\n10,1\r\n20,2\r\n"


def take_it_all(self, *_):
    torch.empty(10**15)


def run_out(self, *_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


@pytest.mark.parametrize("step", [take_it_all, run_out], ids=["CPU", "GPU"])
def test_too_little_memory_names_what_to_lower(run, finished, monkeypatch, step):
    before = (finished / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr(module.MemoryPPO, "training_step", step)
    status, err = run("fit --ckpt_path last --out x --steps 480")
    assert status == 1
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1] == (
        "memsuite fit: out of memory: set ppo.recompute (below 10), or start a run with more ppo.minibatches (2) or "
        "fewer num_envs (4); go on with: memsuite fit --ckpt_path last --out x"
    )
    assert (finished / "checkpoints" / "last.ckpt").read_bytes() == before


def test_other_errors_are_not_taken_for_too_little_memory(run, finished, monkeypatch):
    monkeypatch.setattr(module.MemoryPPO, "training_step", lambda *_: torch.ones(2) @ torch.ones(3))
    status, err = run("fit --ckpt_path last --out x --steps 480")
    last = err.strip().splitlines()[-1]
    assert status == 1
    assert "size" in last
    assert "memory" not in last
    assert "test_ends.py:" in last  # in this test, this file plays the role of a user's file
    assert "Traceback" in (finished / "log.txt").read_text()


def test_errors_of_memsuites_own_are_raised_whole(run, finished, monkeypatch):
    monkeypatch.setattr(module.MemoryPPO, "log_row", module.MemoryPPO.test_step)
    with pytest.raises(TypeError, match="batch_idx"):
        run("fit --ckpt_path last --out x --steps 480")


def test_what_killed_writes_left_is_removed(run, finished):
    names = [".last.ckpt.x1", ".previous.ckpt.link", "..writable.x1", ".writable"]
    names = [finished / "checkpoints" / name for name in names]
    names += [finished / name for name in (".metrics.csv.x1", ".result.json.x1", ".config.yaml.x1", "..writable.x1")]
    for name in names:
        name.write_bytes(b"half")
    assert run("fit --ckpt_path last --out x")[0] == 0
    assert not list(finished.rglob(".*"))
