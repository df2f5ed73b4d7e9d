"""The same suite on Ray and through submitit ends with the same bits as on this machine; each needs its extra."""

import os
import signal
import time
from pathlib import Path

import pytest
from suites import SuiteProcess, run_folders, write_suite
from test_suite_kills import assert_equal_suites, stamps

from memsuite.suite import store

# Long enough for a node to die in the middle of a run.
SETTINGS = {"steps": 8000}
GRID = {"task": ["delayed_cue"], "controller": ["gru", "pseudo_mamba"], "seed": [0, 1]}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def suite(tmp_path):
    path = write_suite(tmp_path, SETTINGS, GRID)
    status, said = SuiteProcess(path, "--out", tmp_path / "local", cwd=tmp_path).end(400)
    assert status == 0, said
    return path


@pytest.fixture
def two_nodes():
    pytest.importorskip("ray", reason="needs memsuite-rl[ray]")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def with_submitit():
    pytest.importorskip("submitit", reason="needs memsuite-rl[slurm]")


def under_way(out) -> list:
    """List the run folders that a process works on."""
    return [folder for folder in run_folders(out).values() if store.is_held(folder)]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ray_with_a_node_that_dies(two_nodes, suite, tmp_path):
    out = tmp_path / "ray"
    words = ("--out", out, "--launcher", "ray", "--ray", f"address={two_nodes.address}")
    process = SuiteProcess(suite, *words, cwd=tmp_path)
    while len([folder for folder in under_way(out) if store.env_steps(folder) > 400]) < 2:
        assert process.process.poll() is None, process.output.read_text()
        time.sleep(0.05)
    before = stamps(out)
    (worker_node,) = two_nodes.worker_nodes
    two_nodes.remove_node(worker_node, allow_graceful=False)
    assert len(before) < 4, "the node died too late to show anything"
    status, said = process.end(600)
    assert status == 0, said
    assert before.items() <= stamps(out).items()
    starts = [(folder / "log.txt").read_text().count("memsuite fit --task") for folder in run_folders(out).values()]
    assert sum(starts) >= 5, f"no run was begun again: {starts}"
    print(f"starts of the runs on Ray: {starts}")
    assert_equal_suites(tmp_path / "local", out, 4)


def test_submitit_with_jobs_that_are_killed(with_submitit, suite, tmp_path):
    out = tmp_path / "submitit"
    words = ("--out", out, "--launcher", "submitit", "--slurm", "cluster=local", "--jobs", "2")
    process = SuiteProcess(suite, *words, cwd=tmp_path)
    killed = 0
    while killed < 2 and process.process.poll() is None:
        folders = [folder for folder in under_way(out) if store.env_steps(folder) > 400 * (killed + 1)]
        if folders:
            os.kill(holder_of(folders[0]), signal.SIGKILL)
            killed += 1
            time.sleep(1)
        time.sleep(0.05)
    status, said = process.end(600)
    assert status == 0, said
    assert killed == 2
    assert said.count("continuing it") >= 1
    assert_equal_suites(tmp_path / "local", out, 4)


def holder_of(folder) -> int:
    """Find the process that works on a run folder: the one that has its lock file open."""
    lock = os.stat(folder / ".lock").st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].split(":")[-1] == str(lock):
            return int(words[4])
    raise AssertionError(f"nobody holds {folder}")


def test_submitit_is_stopped_by_a_signal_and_goes_on(with_submitit, suite, tmp_path):
    out = tmp_path / "submitit"
    words = ("--out", out, "--launcher", "submitit", "--slurm", "cluster=local", "--jobs", "2")
    process = SuiteProcess(suite, *words, cwd=tmp_path)
    while not any(store.env_steps(folder) > 400 for folder in under_way(out)):
        assert process.process.poll() is None, process.output.read_text()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    status, said = process.end(60)
    assert status == 143, said
    assert "go on with: memsuite suite" in said
    assert not under_way(out)
    assert any((folder / "checkpoints" / "last.ckpt").exists() for folder in run_folders(out).values())
    status, said = SuiteProcess(suite, *words, cwd=tmp_path).end(400)
    assert status == 0, said
    assert_equal_suites(tmp_path / "local", out, 4)
