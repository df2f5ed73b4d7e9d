"""Settings of the right kind that ask for more memory or time than there is: one line tells so at once."""

import time

import pytest
import torch
from one_line import answer_in

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl import needs
from memsuite.system import memory
from memsuite.tasks import make_task

EASY = "--task delayed_cue --difficulty easy --device cpu --out x"
STEPPED = "--device cpu --out x --steps 1e15"


@pytest.fixture
def answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return answer_in(tmp_path, lambda: capsys.readouterr().err)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"fit {EASY} --horizon 1000000000 --steps 1e15 --num_envs 4", "need at least"),
        (f"fit {EASY} --horizon 1000000000", "is more than 10,000,000,000; fewer environments"),
        (f"fit {EASY} --evaluation_episodes 1000000000", "50,000,000,000 environment steps of evaluation"),
        (f"fit {EASY} --controller_args.depth 100000", "the weights of gru with depth 100,000 need at least"),
        (f"fit {EASY} --controller_args.hidden_dim 1000000000", "need more than can be counted of memory"),
        (f"fit {EASY} --controller_args.hidden_dim 200000", "the weights of gru with hidden_dim 200,000 need at least"),
        (f"fit {EASY} --controller mamba --controller_args.hidden_dim 1000000", "the weights of mamba with hidden_dim"),
        (f"fit {EASY} --num_envs 1000000000", "is more than 10,000,000,000; fewer environments"),
        (f"fit --task gym:CartPole-v1 {STEPPED} --num_envs 10000000", "10,000,000 environments of 500 steps and 4"),
        (f"fit --task distractor_nav {STEPPED} --num_envs 100000000 --horizon 50", "lower horizon, num_envs or"),
    ],
)
def test_what_fits_no_machine_is_told_at_once(answer, monkeypatch, line, words):
    monkeypatch.setattr(needs, "memory", lambda: 4e9)
    began = time.process_time()
    assert words in answer(*line.split())
    assert time.process_time() - began < 5


def test_validation_and_retention_are_told_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "--horizon 10 --num_envs 8 --steps 80 --evaluation_episodes 4 --controller_args.hidden_dim 4"
    assert main(["fit", *EASY.split(), *small.split()]) == 0
    capsys.readouterr()
    call = answer_in(tmp_path, lambda: capsys.readouterr().err)
    assert "of evaluation; the most is" in call("test", "--ckpt_path", "x", "--evaluation_episodes", "9000000000")
    assert "1,000,000,000 steps and 17 numbers need at least" in call("retention", "x", "--horizons", "1000000000")
    with pytest.raises(UsageError, match="evaluate fewer episodes"):
        memsuite.load("x").evaluate(10**10, "test")


def test_what_is_counted_is_what_is_made():
    """The refused amounts are lower bounds, exact for the weights."""
    for depth in (1, 2, 5):
        arguments = {"hidden_dim": 8, "depth": depth}
        module = MemoryPPO(controller_args=arguments)
        made = sum(parameter.numel() for parameter in module.model.controller.parameters())
        assert needs._weights("gru", {**arguments, "memory_horizon": 9}, module.task.observation_dim) == 4 * made


def test_memory_is_the_machines(monkeypatch):
    task = make_task("delayed_cue", "easy", horizon=100)
    with open("/proc/meminfo") as file:
        installed = 1024 * int(file.readline().split()[1])
    assert memory() <= installed + 2**40
    monkeypatch.setattr(needs, "memory", lambda: 4.0 * 100 * task.observation_dim)
    needs.check_evaluation(task, 1)
    monkeypatch.setattr(needs, "memory", lambda: 4.0 * 100 * task.observation_dim - 1)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="lower the horizon"):
            needs.check_evaluation(task, 1)
