"""What the trial at the start of a run costs, on the golden run and with a user's own controller and task in it."""

import statistics
import time
from pathlib import Path

import pytest
import torch
import yaml
from test_controllers import PassingOn

from memsuite.module import MemoryPPO
from memsuite.tasks.delayed_cue import DelayedCue
from memsuite.trial import try_out

MOST = 0.3  # CPU seconds


class Cues(DelayedCue):
    """The golden task as a user's own."""

    def __init__(self, horizon=200, num_cues=8):
        super().__init__(horizon=horizon, num_cues=num_cues)


OWN = {"controller": f"test_controllers.{PassingOn.__name__}"}
WHAT = {"built in": {}, "controller": OWN, "task": {"task": f"{__name__}.Cues"}}


@pytest.mark.parametrize("what", [*WHAT, "both"])
def test_the_trial_costs_less_than_a_third_of_a_second(what):
    with open(Path(__file__).parents[2] / "configs" / "golden.yaml") as file:
        golden = yaml.safe_load(file)
    module = MemoryPPO(**{**golden, **WHAT.get(what, {**OWN, **WHAT["task"]})})
    costs = []
    for _ in range(5):
        began = time.process_time()
        try_out(module.config, module.task, module.model, torch.device("cpu"))
        costs.append(time.process_time() - began)
    print(f"the trial of the golden run, own: {what}: {statistics.median(costs):.4f} CPU seconds, the median of five")
    assert statistics.median(costs) < MOST
