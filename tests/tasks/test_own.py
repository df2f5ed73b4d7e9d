"""A task of the user's own, found by the path of its class."""

import pytest

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.tasks import DelayedCue

TASK = """
from memsuite.tasks import DelayedCue


class Mine(DelayedCue):
    def __init__(self, horizon=6, num_cues=3):
        super().__init__(horizon, num_cues, vocabulary=4)


class WithoutHorizon(DelayedCue):
    def __init__(self, size=3):
        super().__init__(6, size, vocabulary=4)


Nothing = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_task_of_mine.py").write_text(TASK)
    return "a_task_of_mine"


def test_it_is_made_trained_and_loaded_by_its_path(mine, tmp_path):
    task = memsuite.make_task(f"{mine}.Mine", "easy", num_cues=2)
    assert isinstance(task, DelayedCue)
    assert (task.horizon, task.num_cues) == (6, 2)
    config = memsuite.get_task_config(f"{mine}.Mine", "hard")
    assert (config.horizon, config.updates, config.discount) == (6, 2000, 0.0)
    line = f"fit --task {mine}.Mine --difficulty easy --horizon 8 --num_envs 4 --steps 64 --evaluation_episodes 8"
    assert main([*line.split(), "--device", "cpu", "--out", str(tmp_path / "x")]) == 0
    module = memsuite.load(tmp_path / "x")
    assert module.task.horizon == 8
    assert main(["retention", str(tmp_path / "x"), "--horizons", "4,8", "--episodes", "8"]) == 0
    assert main([*line.split(), "--task_args.reveal", "true", "--device", "cpu", "--out", str(tmp_path / "y")]) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a_task_of_mine.Gone", "cannot be imported"),
        ("a_task_of_mine.Nothing", r"not a subclass of memsuite\.tasks\.Task"),
        ("a_task_of_mine.WithoutHorizon", "argument horizon with a default"),
        ("nowhere_at_all.Mine", "cannot be imported"),
        (".Mine", "no task"),
        ("delayed_que", "did you mean"),
    ],
)
def test_a_mistake_is_told(mine, name, text):
    with pytest.raises(UsageError, match=text):
        memsuite.get_task_config(name, "easy")
