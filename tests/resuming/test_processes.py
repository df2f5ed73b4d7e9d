"""Several processes as one run: started in every possible way, stopped, lost, and resumed with another number."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from children import PROCESSES, TINY, Pair, Run, free_port
from same_run import assert_same, end_state

import memsuite
from memsuite.__main__ import main
from memsuite.launch import processes

pytestmark = pytest.mark.ddp
SETTINGS = [*TINY, "--checkpoint_every", "2", "--evaluate_every", "3", "--steps", "240"]


def read(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def finish(run) -> str:
    status, said = run.end()
    assert status == 0, said
    return said


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """A finished run of two processes."""
    folder = tmp_path_factory.mktemp("by_two")
    finish(Pair(f"fit --out {folder / 'x'}", *SETTINGS, errors=folder / "errors"))
    return folder / "x"


def test_one_process_writes_for_all(by_two):
    result, checkpoint = json.loads((by_two / "result.json").read_text()), read(by_two)
    assert (result["world_size"], result["env_steps"], result["iterations"]) == (2, 240, 6)
    rows = (by_two / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 6 + 2
    first, second = checkpoint["memsuite"]["run"]["ranks"]
    assert not torch.equal(first["generators"]["task"], second["generators"]["task"])
    assert torch.equal(first["generators"]["permutations"], second["generators"]["permutations"])
    assert (by_two / "log.txt").read_text().count("memsuite fit") == 1


def test_its_checkpoint_opens_in_one(by_two):
    module = memsuite.load(by_two)
    assert (module.env_steps, module.device.type) == (240, "cpu")
    assert module.evaluate(8, "test")["success"] == json.loads((by_two / "result.json").read_text())["success"]


@pytest.mark.parametrize(("before", "after"), [(Pair, Run), (Run, Pair)], ids=["two to one", "one to two"])
def test_gone_on_with_by_another_number_of_processes(tmp_path, before, after):
    out, errors = tmp_path / "x", tmp_path / "errors"
    finish(before(f"fit --out {out}", *SETTINGS, errors=errors))
    ended = read(out)
    devices = ["--devices=1"] if after is Run else []
    said = finish(after(f"fit --ckpt_path last --out {out}", *devices, errors=errors))
    sizes = (2, 1) if before is Pair else (1, 2)
    line = f"the checkpoint is of world size {sizes[0]}, this run of {sizes[1]}: weights, optimiser, counts"
    assert [line in each for each in said.strip().splitlines() if "greedy" not in each].count(True) == 1
    assert_same(read(out)["state_dict"], ended["state_dict"])
    assert_same(read(out)["optimizer_states"], ended["optimizer_states"])
    finish(after(f"fit --ckpt_path last --out {out} --steps 320", *devices, errors=errors))
    checkpoint = read(out)
    assert checkpoint["memsuite"]["iteration"] == 8
    assert len(checkpoint["memsuite"]["run"]["ranks"]) == sizes[1]
    steps = [row.split(",")[0] for row in (out / "metrics.csv").read_text().splitlines()]
    assert steps == ["env_steps", "40", "80", "120", "120", "160", "200", "240", "240", "280", "320"]


def test_a_signal_to_one_process_stops_both_after_the_iteration(tmp_path):
    out = tmp_path / "x"
    long = ["--steps", "400000", "--checkpoint_every", "1000000"]
    pair = Pair(f"fit --out {out}", *TINY, *long, errors=tmp_path / "errors", slow_iteration=0.2)
    pair.wait_for_training()
    time.sleep(0.5)
    began = time.perf_counter()
    os.kill(pair.runs[1].process.pid, signal.SIGTERM)
    ends = [run.end() for run in pair.runs]
    assert time.perf_counter() - began < 6
    assert [status for status, _ in ends] == [143, 143]
    assert "Traceback" not in ends[0][1]
    line = ends[0][1].strip().splitlines()[-1]  # before it, how far the run is, on a slow machine
    assert "stopped by SIGTERM after" in line
    assert ends[1][1] == ""
    iteration = read(out)["memsuite"]["iteration"]
    assert iteration >= 1
    command = shlex.split(line.rpartition("go on with: memsuite ")[2])
    steps = str(40 * (iteration + 2))
    finish(Pair(shlex.join(command), "--steps", steps, errors=tmp_path / "errors"))
    assert read(out)["memsuite"]["iteration"] == iteration + 2


def test_two_nodes(tmp_path, by_two):
    """Two processes that know each other only through MASTER_ADDR, as on two machines."""
    out, port = tmp_path / "x", free_port()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    line = f"fit --out {out} --trainer.num_nodes 2 --devices 1"
    nodes = [
        Run(line, *SETTINGS, errors=tmp_path / f"errors{node}", variables={**place, "NODE_RANK": str(node)})
        for node in (0, 1)
    ]
    assert "greedy success" in finish(nodes[0])
    assert finish(nodes[1]) == ""
    assert_same(end_state(out), end_state(by_two))


def test_the_tasks_of_a_slurm_step(tmp_path, by_two):
    """SLURM itself is not run, but the variables of its tasks are set."""
    out, port = tmp_path / "x", free_port()
    step = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    step |= {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}
    step |= {"MASTER_PORT": str(port)}
    tasks = [
        Run(
            f"fit --out {out} --devices 2",
            *SETTINGS,
            errors=tmp_path / f"errors{task}",
            variables={**step, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in (0, 1)
    ]
    assert "greedy success" in finish(tasks[0])
    assert finish(tasks[1]) == ""
    assert_same(end_state(out), end_state(by_two))


def test_a_run_of_one_process_is_no_part_of_a_slurm_step(tmp_path):
    """Task 3 of 4 trains on its own, as in a sweep, and writes its own record."""
    step = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "1"}
    step |= {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "sweep", "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}
    finish(Run(f"fit --out {tmp_path / 'x'}", *SETTINGS, errors=tmp_path / "errors", variables=step))
    assert json.loads((tmp_path / "x" / "result.json").read_text())["world_size"] == 1
    assert (tmp_path / "x" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("variables", "line", "message"),
    [
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4"}, "--devices 2", "torchrun started 4 processes"),
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4"}, "", "torchrun started 4 processes"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, "--devices 4", "ntasks-per-node"),
    ],
)
def test_another_number_of_processes_than_was_started_is_refused(
    tmp_path, monkeypatch, capfd, variables, line, message
):
    for name, value in {**variables, "RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["fit", "--out", str(tmp_path / "x"), *TINY, *line.split()]) == 2
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (tmp_path / "x").exists()


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1]), "NODE_RANK": "0"}
        line = f"fit --out {tmp_path / 'x'} --trainer.num_nodes 2"
        status, said = Run(line, *TINY, errors=tmp_path / "errors", variables=place).end()
    assert status == 1
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith("memsuite fit: the processes did not find each other: ")


def test_processes_with_other_options_are_refused(tmp_path):
    out, port = tmp_path / "x", free_port()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    runs = [
        Run(
            f"fit --out {out} --devices 2 --evaluate_every {rank + 2}",
            *TINY,
            errors=tmp_path / f"errors{rank}",
            variables={**place, "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    for status, said in [run.end() for run in runs]:
        assert status == 2
        assert (
            said.strip()
            .splitlines()[-1]
            .startswith("memsuite fit: error: evaluate_every is 3 in process 1, 2 in process 0")
        )


def test_the_command_starts_its_processes_and_ends_with_them(tmp_path):
    """No launcher is needed on one machine; a lost process ends the others, with one line."""
    out, line = tmp_path / "x", "fit --devices 2 --steps 40000000 --checkpoint_every 5"
    run = Run(f"{line} --out {out}", *TINY, errors=tmp_path / "errors")
    while not (out / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.05)
    (child,) = children_of(run.process.pid)
    os.kill(child, signal.SIGKILL)
    began = time.perf_counter()
    status, said = run.end()
    assert time.perf_counter() - began < processes.GRACE + 5
    assert status == 1
    assert "Traceback" not in said
    line = said.strip().splitlines()[-1]  # before it, how far the run is, on a slow machine
    assert "another process of this run ended before its time; go on with: memsuite fit --ckpt_path last" in line


def test_the_processes_started_end_with_the_first(tmp_path):
    out, line = tmp_path / "x", "fit --devices 2 --steps 40000000 --checkpoint_every 5"
    run = Run(f"{line} --out {out}", *TINY, errors=tmp_path / "errors")
    while not (out / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.05)
    (child,) = children_of(run.process.pid)
    run.process.kill()
    run.end()
    until = time.monotonic() + 5
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(child)


def start_one_of_two(errors: str, out: str, port: str) -> None:
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"})
    processes.PATIENCE = 0.5
    main(["fit", "--out", out, *SETTINGS, "--trainer.num_nodes", "2"])


def test_a_process_that_finds_no_others_says_what_it_waits_for(tmp_path):
    errors, port = tmp_path / "errors", str(free_port())
    alone = PROCESSES.Process(target=start_one_of_two, args=(str(errors), str(tmp_path / "x"), port))
    alone.start()
    until = time.monotonic() + 30
    while not (errors.exists() and errors.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    alone.kill()
    alone.join()
    assert errors.read_text() == f"memsuite: waiting at 127.0.0.1:{port} until all 2 processes of the run are there\n"


def hang_with_a_lost_process(errors: str) -> None:
    """Simulate a process that waits for ever, as NCCL allows, while a process that it started has failed."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    processes.GRACE = 0.2
    lost = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"], stderr=subprocess.DEVNULL)
    processes._watch([lost], threading.Event(), lambda: "go on with: this")
    time.sleep(60)


def test_a_process_that_hangs_because_another_is_lost_is_ended(tmp_path):
    waiting = PROCESSES.Process(target=hang_with_a_lost_process, args=(str(tmp_path / "errors"),))
    waiting.start()
    waiting.join(30)
    assert waiting.exitcode == 1
    said = (tmp_path / "errors").read_text()
    assert said == "memsuite: process 1 of the run ended with status 7; go on with: this\n"


def test_a_model_with_idle_parameters_is_told_the_strategy_it_needs(tmp_path):
    line = f"fit --out {tmp_path / 'x'} --controller own_idle.Idle"
    status, said = Pair(line, *SETTINGS, errors=tmp_path / "errors").end()
    assert status == 2
    assert "take no part in its loss" in said
    more = ["--overwrite", "--trainer.strategy", "ddp_find_unused_parameters_true"]
    finish(Pair(line, *SETTINGS, *more, errors=tmp_path / "errors"))


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_torchrun(tmp_path, by_two, nodes):
    out = tmp_path / "x"
    line = f"fit --out {out} --devices {2 // nodes} --trainer.num_nodes {nodes}"
    start = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes), "--nproc_per_node", str(2 // nodes)]
    start += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    agents = [
        subprocess.Popen([*start, "--node_rank", str(node), "-m", "memsuite", *line.split(), *SETTINGS])
        for node in range(nodes)
    ]
    assert [agent.wait(120) for agent in agents] == [0] * nodes
    assert_same(end_state(out), end_state(by_two))
