"""A model of one's own that forgets before the task asks is named when its run begins; one that holds is not."""

import pytest

from memsuite.__main__ import main

MODEL = """
import torch
from torch import nn

from memsuite.controllers import Controller


class Leaky(Controller):
    '''Forgets at one rate for all units.'''

    def __init__(self, input_dim, keep=0.5):
        super().__init__()
        self.input_dim, self.feature_dim, self.keep = input_dim, 16, keep
        self.write = nn.Linear(input_dim, 16, bias=False)

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, 16, device=device or self.write.weight.device)

    def forward_step(self, x_BD, state):
        state = self.keep * state + self.write(x_BD)
        return state, state

    def reset_mask(self, state, is_first_B):
        return state.masked_fill(is_first_B[:, None], 0)
"""
FIT = "fit --task delayed_cue --difficulty medium --horizon 40 --steps 2560 --num_envs 16 --evaluation_episodes 8"
FIT += " --model.ppo.draws 4 --device cpu --out x"


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hinted_model.py").write_text(MODEL)


def test_a_model_that_forgets_is_named(capfd):
    assert main([*FIT.split(), "--controller", "hinted_model.Leaky"]) == 0
    said = capfd.readouterr().err
    assert "hinted_model.Leaky begins with a retention of 0.000 after the 39 steps of this task" in said


@pytest.mark.parametrize("more", ["hinted_model.Leaky --controller_args.keep 1.0", "gru"])
def test_a_model_that_holds_is_not(more, capfd):
    assert main([*FIT.split(), "--controller", *more.split()]) == 0
    assert "retention" not in capfd.readouterr().err


def test_a_model_of_ones_own_is_measured_by_its_path(capfd):
    assert main(["controllers", "hinted_model.Leaky", "gru", "--horizons", "20"]) == 0
    said = capfd.readouterr().out
    assert "hinted_model.Leaky" in said
    assert "gru" in said
    assert main(["controllers", "hinted_model.Leeky"]) == 2
    assert "'hinted_model.Leeky' cannot be imported" in capfd.readouterr().err


def test_a_plan_of_runs_that_nothing_is_known_about_says_so(capfd):
    assert main(["suite", "tiny_sanity", "--set", "controller=hinted_model.Leaky", "--dry_run"]) == 0
    said = capfd.readouterr().out
    assert "still to do: for a time that is not known" in said
    assert "An estimate" not in said
