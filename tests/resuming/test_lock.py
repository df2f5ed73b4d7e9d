"""A run folder belongs to one process at a time, for as long as that process lives."""

import errno
import time

import pytest
from children import TINY, Run

from memsuite import system
from memsuite.__main__ import main
from memsuite.suite.store import is_held

LONG = "fit --steps 40000000 --checkpoint_every 1 --out {}"


@pytest.fixture
def held(tmp_path):
    """A folder in which a run is training."""
    run = Run(LONG.format(tmp_path / "x"), *TINY, errors=tmp_path / "errors", slow_iteration=0.05)
    while not (tmp_path / "x" / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.02)
    yield run
    run.process.kill()
    run.end()


@pytest.mark.parametrize("more", ["--ckpt_path last", "--overwrite", "--overwrite --devices 2"])
def test_a_second_process_is_refused_in_one_line_and_changes_nothing(held, tmp_path, capfd, more):
    config = (tmp_path / "x" / "config.yaml").stat().st_mtime_ns
    assert main(["fit", "--out", str(tmp_path / "x"), *TINY, *more.split()]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"another process is writing into {tmp_path / 'x'}" in line
    assert (tmp_path / "x" / "config.yaml").stat().st_mtime_ns == config
    assert (tmp_path / "x" / "metrics.csv").exists()
    assert held.process.is_alive()


def test_deleting_the_log_lets_nobody_in(held, tmp_path, capfd):
    (tmp_path / "x" / "log.txt").unlink()
    assert is_held(tmp_path / "x")
    assert main(["fit", "--out", str(tmp_path / "x"), *TINY, "--ckpt_path", "last"]) == 2
    assert "another process is writing into" in capfd.readouterr().err


def test_the_lock_dies_with_its_process(tmp_path):
    run = Run(LONG.format(tmp_path / "x"), *TINY, errors=tmp_path / "errors", slow_iteration=0.05)
    while not (tmp_path / "x" / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.02)
    run.process.kill()
    run.end()
    again = Run(f"fit --ckpt_path last --out {tmp_path / 'x'} --steps 40", *TINY, errors=tmp_path / "errors")
    status, said = again.end()
    assert status == 0, said


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(system.fcntl, "flock", flock)
    assert main(["fit", "--out", str(tmp_path / "x"), "--steps", "40", *TINY]) == 0


def test_a_folder_replaced_keeps_nothing_of_the_run_before(tmp_path):
    for seed in ("1", "2"):
        assert main(["fit", "--out", str(tmp_path / "x"), "--steps", "40", "--overwrite", "--seed", seed, *TINY]) == 0
    log = (tmp_path / "x" / "log.txt").read_text()
    assert "--seed 2" in log
    assert "--seed 1" not in log
