"""Correct controllers of unusual kinds pass, copies keep what they should, and what cannot be checked is said."""

import copy
import threading

import pytest
import torch
from faulty import Sound
from torch import nn
from unusual import UNUSUAL, KeepsItsActivation, Stepped

from memsuite.__main__ import main
from memsuite.controllers.copies import copied, in_precision
from memsuite.errors import UsageError
from memsuite.laws import check


@pytest.mark.parametrize("cls", UNUSUAL, ids=lambda cls: cls.__name__)
def test_a_correct_controller_of_an_unusual_kind_passes(cls):
    controller = cls(5)
    controller.forward_step(torch.randn(2, 5), controller.init_state(2))
    report = check(controller)
    assert report.holds, {law: report.findings[law] for law in report.broken()}
    assert not report.notes


def test_an_old_weight_norm_passes():
    class Normed(Stepped):
        def __init__(self, input_dim):
            super().__init__(input_dim)
            with pytest.warns(FutureWarning, match="weight_norm"):
                self.now = nn.utils.weight_norm(self.now)

    assert check(Normed(5)).holds


def test_a_state_that_ignores_the_device_is_told_and_breaks_no_law_on_a_cpu():
    class OnTheCPU(Sound):
        def init_state(self, batch_size, device=None):
            return super().init_state(batch_size, "cpu")

    report = check(OnTheCPU(5))
    assert report.holds
    assert report.notes[0].startswith("init_state ignores the device")


def test_a_difference_of_rounding_in_the_past_says_so():
    class Mean(Sound):
        def forward_sequence(self, x_TBD, state, is_first_TB):
            features, after = super().forward_sequence(x_TBD, state, is_first_TB)
            whole = features.abs().sum(0)
            return features + whole - whole.roll(0).add(1e-15 * x_TBD.sum(0)[:, :1]), after

    finding = check(Mean(5), laws=["the future is unseen"]).findings["the future is unseen"]
    assert not finding.holds
    assert "rounding" in finding.where


def test_complex_parameters_are_refused_in_one_line():
    class Imaginary(Sound):
        def __init__(self, input_dim):
            super().__init__(input_dim)
            self.turn = nn.Parameter(torch.ones(3, dtype=torch.complex64))

    with pytest.raises(UsageError, match=r"Imaginary .*turn holds complex numbers; keep .*view_as_real"):
        check(Imaginary(5))


def test_a_state_that_no_run_can_hold_is_refused_in_one_line():
    class LayersFirst(Sound):
        def init_state(self, batch_size, device=None):
            return {"layers": torch.zeros(2, batch_size, 4)}

    class CountsInPython(Sound):
        def init_state(self, batch_size, device=None):
            return {**super().init_state(batch_size, device), "steps": 0}

    with pytest.raises(UsageError, match=r"LayersFirst .*the batch must be in dimension 0"):
        check(LayersFirst(5))
    with pytest.raises(UsageError, match=r"CountsInPython .*every part must be a tensor"):
        check(CountsInPython(5))


def test_weights_that_do_not_learn_or_do_nothing_are_told_and_break_no_law():
    class Odd(Sound):
        def __init__(self, input_dim):
            super().__init__(input_dim)
            self.hidden_from_pytorch = [nn.Parameter(torch.ones(()))]
            self.gate = nn.Linear(input_dim, 1)

    class Deaf(Sound):
        def forward_step(self, x_BD, state):
            return super().forward_step(torch.zeros_like(x_BD), state)

    report = check(Odd(5))
    assert report.holds
    assert [note.split(" ")[0] for note in report.notes] == ["hidden_from_pytorch", "no"]
    assert "gradient in gate.weight, gate.bias;" in report.notes[1]
    assert check(Deaf(5), laws=[]).notes[0] == "the features are the same whatever the input is"


class Locked(Sound):
    """Holds what cannot be copied."""

    def __init__(self, input_dim, hidden_dim=8):
        super().__init__(input_dim, hidden_dim)
        self.lock = threading.Lock()


def test_what_cannot_be_copied_is_told_in_one_line(capsys):
    assert main(["check", f"{__name__}.Locked"]) == 2
    told = capsys.readouterr().err
    assert "Locked cannot be copied: TypeError" in told
    assert told.count("\n") == 1


def test_a_copy_shares_no_tensor_with_a_module_that_keeps_its_activation():
    module = KeepsItsActivation(5)
    module.forward_step(torch.randn(2, 5), module.init_state(2))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)
    other = copied(module)
    assert torch.equal(other.last, module.last)
    assert torch.equal(other.all["every"][0], module.all["every"][0])
    assert module.last.grad_fn is not None
    assert other.last.grad_fn is None
    assert other.last.data_ptr() != module.last.data_ptr()
    assert all(one is not same for one, same in zip(other.parameters(), module.parameters(), strict=True))


def test_another_precision_keeps_complex_buffers_complex():
    module = nn.Module()
    module.register_buffer("turn", torch.tensor([1j]))
    module.register_buffer("count", torch.tensor([1]))
    double = in_precision(module, torch.float64)
    assert (double.turn.dtype, double.count.dtype) == (torch.complex128, torch.int64)
    assert double.turn.item() == 1j
