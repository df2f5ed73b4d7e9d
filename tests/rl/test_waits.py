"""On a GPU the host waits at the places of an iteration that the pretended accelerator counts (tests/pretended)."""

import warnings

import pytest
import torch
from iterations import WAYS, iterate, module_of, prepared

from memsuite.controllers import CONTROLLERS

pytestmark = pytest.mark.gpu
# Where the decisions of a minibatch are, and whether an episode begins with the rollout.
MOST = 2


def waits(monkeypatch, task, **settings):
    """Return what PyTorch says of each operation of an iteration for which the host waits for the GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    module = module_of(task, **settings).cuda()
    prepared(monkeypatch, module, torch.device("cuda"))
    for _ in range(2):  # the first iterations build, load and measure
        iterate(module).tolist()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            iterate(module)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [str(one.message) for one in found if "synchroniz" in str(one.message)]


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("task", ["delayed_cue", "copy_memory", "distractor_nav"])
def test_an_iteration_waits_for_its_decisions_at_most(task, settings, monkeypatch):
    found = waits(monkeypatch, task, **settings)
    assert len(found) <= MOST, found


@pytest.mark.parametrize("name", [name for name in CONTROLLERS if name != "hyena"])
def test_no_controller_makes_the_host_wait(name, monkeypatch):
    found = waits(monkeypatch, "delayed_cue", controller=name, controller_args={"hidden_dim": 16, "depth": 1})
    assert len(found) <= MOST, found
