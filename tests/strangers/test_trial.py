"""What the trial at the start of a run costs, on the golden run and with a user's own controller and task in it."""

import statistics
import time
from pathlib import Path

import pytest
import torch
import yaml
from test_controllers import PassingOn
from test_evaluation import Leaky

from memsuite.errors import UsageError
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


class OfThirtyTwo(Leaky):
    """Its state has 32 bits whatever its parameters have."""


class NoHalves(Leaky):
    """It cannot take what a product gives under autocast."""

    def init_state(self, batch_size, device=None):
        return super().init_state(batch_size).to(self.w.weight.dtype)

    def forward_sequence(self, x_TBD, state, is_first_TB):
        if torch.is_autocast_enabled("cpu"):
            raise ValueError("no halves here")
        return super().forward_sequence(x_TBD, state, is_first_TB)


@pytest.mark.parametrize(
    ("cls", "precision", "said"),
    [(OfThirtyTwo, "64-true", "let init_state take the dtype"), (NoHalves, "bf16-mixed", "no halves here")],
)
def test_the_trial_is_made_in_the_precision_of_the_run(cls, precision, said):
    module = MemoryPPO(controller=f"{__name__}.{cls.__name__}", horizon=20, num_envs=8, steps=320)
    for other in {"32-true", "64-true", "bf16-mixed"} - {precision}:
        try_out(module.config, module.task, module.model, torch.device("cpu"), other)
    with pytest.raises(UsageError, match=said):
        try_out(module.config, module.task, module.model, torch.device("cpu"), precision)
