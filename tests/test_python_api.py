"""The functions that notebooks call: numbers of NumPy's are numbers, and a mistake is one line that names it."""

import numpy as np
import pytest
import torch

import memsuite
from memsuite.analysis import probes
from memsuite.controllers import GRU
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.tasks import DelayedCue, get_benchmark_suite


def test_numbers_of_numpy_are_numbers():
    assert memsuite.make_task("delayed_cue", "easy", horizon=np.int64(100), noise=np.float32(0.5)).horizon == 100
    made = memsuite.make_controller("gru", input_dim=np.int64(9), hidden_dim=np.int32(8), memory_horizon=np.int64(50))
    assert made.feature_dim == 8
    module = MemoryPPO(task="delayed_cue", difficulty="easy", horizon=10, num_envs=8, steps=160)
    assert module.evaluate(np.int64(3), "fresh") == module.evaluate(3, "fresh")


def test_one_task_may_be_named_alone():
    assert get_benchmark_suite("easy", "n_back") == get_benchmark_suite("easy", ["n_back"])


MISTAKES = {
    "a class for a task": (lambda: memsuite.make_task(DelayedCue, "easy"), "give its name, or the path of your class"),
    "a class for a controller": (lambda: memsuite.make_controller(GRU, input_dim=9), "or the path of a class as text"),
    "a width in words": (
        lambda: memsuite.make_controller("gru", input_dim="5"),
        "input_dim is '5'; it must be a",
    ),
    "a width of a half": (
        lambda: memsuite.make_controller("gru", input_dim=2.5),
        "input_dim is 2.5; it must be a",
    ),
    "not a number": (lambda: memsuite.make_task("delayed_cue", noise=float("nan")), "noise is nan; it must be finite"),
    "a yes for a number": (
        lambda: MemoryPPO(horizon=10, num_envs=8, steps=80).evaluate(True, "fresh"),
        "episodes is True; it must be a whole number above 0",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line(what):
    call, said = MISTAKES[what]
    with pytest.raises(UsageError, match=said):
        call()


@pytest.mark.parametrize("read", ["Features", "feature", "foo"])
def test_probes_read_states_or_features_and_nothing_else(read):
    task = memsuite.make_task("delayed_cue", "easy")
    controller = memsuite.make_controller("lstm", input_dim=task.observation_dim, hidden_dim=16)
    widths = {
        part: probes.decode(controller, task, every=100, read=part).units.shape[1] for part in ("state", "features")
    }
    assert widths == {"state": 32, "features": 16}
    with pytest.raises(UsageError, match="no part to read"):
        probes.decode(controller, task, every=100, read=read)


def test_probes_refuse_observations_of_another_width():
    task = memsuite.make_task("delayed_cue", "easy")
    controller = memsuite.make_controller("gru", input_dim=task.observation_dim + 1)
    with pytest.raises(UsageError, match="the controller's input_dim is"):
        probes.decode(controller, task, every=100)
    assert torch.is_grad_enabled()
