"""torch's recurrent modules, and modules that read whole sequences, as controllers: both modes, resets, training."""

import json
from itertools import product

import pytest
import torch
from torch import nn

import memsuite
from memsuite.__main__ import main
from memsuite.controllers import Controller, WholeSequence, controller_class, wrap
from memsuite.controllers.base import ZeroBegin, map_state
from memsuite.errors import UsageError

KINDS = (nn.GRU, nn.LSTM, nn.RNN)
T, B, D = 12, 3, 5


class Blurred(ZeroBegin, WholeSequence):
    """Any module that reads a sequence with a carried state: here a running mean by ``cumsum``, and a perceptron."""

    def __init__(self, input_dim, hidden_dim=16):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.enter, self.leave = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)

    def init_state(self, batch_size, device=None):
        weight = self.enter.weight
        return {"sum": torch.zeros(batch_size, self.feature_dim, device=device or weight.device, dtype=weight.dtype)}

    def read(self, x_TBD, state):
        sums = state["sum"] + self.enter(x_TBD).cumsum(0)
        return self.leave(sums).tanh(), {"sum": sums[-1]}


MAKERS = [*(lambda kind=kind, n=n: wrap(kind)(D, 8, n) for kind, n in product(KINDS, (1, 2))), lambda: Blurred(D)]


def drawn():
    is_first = torch.rand(T, B) < 0.2
    is_first[0, 0], is_first[3, 1] = True, True
    return torch.randn(T, B, D, dtype=torch.float64), is_first


@pytest.mark.parametrize("make", MAKERS)
def test_both_modes_agree_whatever_begins_where(make):
    model = make().double()
    x, is_first = drawn()
    state = map_state(lambda part: torch.randn_like(part), model.init_state(B))
    fast, after = model.forward_sequence(x, state, is_first)
    slow, after_steps = Controller.forward_sequence(model, x, state, is_first)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(after, after_steps)


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_of_an_episode_crosses_a_reset(make):
    model = make().double()
    x, is_first = drawn()
    is_first[6] = True
    other = x.clone()
    other[:6] = torch.randn(6, B, D, dtype=torch.float64)
    first, second = (model.forward_sequence(each, model.init_state(B), is_first)[0] for each in (x, other))
    torch.testing.assert_close(first[6:], second[6:])
    assert not torch.allclose(first[5], second[5])


@pytest.mark.parametrize("kind", KINDS)
def test_without_resets_it_is_torchs_own_module(kind):
    model = wrap(kind)(D, 8, 2)
    x, no = torch.randn(T, B, D), torch.zeros(T, B, dtype=torch.bool)
    torch.testing.assert_close(model.forward_sequence(x, model.init_state(B), no)[0], model.module(x)[0])


def test_what_is_no_such_module_is_named():
    with pytest.raises(TypeError, match=r"is not torch.nn.GRU, LSTM or RNN; subclass memsuite"):
        memsuite.wrap(nn.Linear)
    with pytest.raises(UsageError, match=r"'torch.nn.Linear' is not a subclass of .*RNNBase; docs/extending.md"):
        controller_class("torch.nn.Linear")


@pytest.mark.parametrize("controller", ["torch.nn.LSTM", f"{__name__}.Blurred"])
def test_it_trains_from_the_command_line_and_is_loaded_again(controller, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    line = "fit --task delayed_cue --difficulty easy --steps 3200 --num_envs 16 --evaluation_episodes 8 --device cpu"
    line += f" --model.ppo.draws 4 --out x --controller {controller} --controller_args.hidden_dim 24"
    assert main(line.split()) == 0
    result = json.loads((tmp_path / "x" / "result.json").read_text())
    assert result["controller"] == controller
    assert result["config"]["controller_args"]["hidden_dim"] == 24
    assert memsuite.load("x", trust=True).model.controller.feature_dim == 24
