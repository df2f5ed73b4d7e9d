"""Models of one size: the width is found at which a network has nearest to a number of parameters."""

import json

import pytest
from one_line import answer_in

from memsuite.__main__ import main
from memsuite.controllers import GRU
from memsuite.controllers.about.match import STEP, TOLERANCE, nearest_width
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl.width import equal_width
from memsuite.runs import RunConfig

TINY = "--set steps=25600 --set num_envs=64 --set evaluation_episodes=8 --set model.ppo.draws=4 --jobs 1"


@pytest.mark.parametrize("parameters", [1, 40, 1000, 5000, 123456])
def test_no_other_width_is_nearer(parameters):
    def count(width):
        return 3 * width * width + width

    width, found = nearest_width(count, parameters)
    assert found == count(width)
    assert min(range(STEP, 400, STEP), key=lambda one: abs(count(one) - parameters)) == width


def test_widths_that_are_not_allowed_are_left_out():
    def count(width):
        if width % 8:
            raise UsageError("heads do not divide it")
        return width

    assert nearest_width(count, 100)[0] in (96, 104)


class OfOneSize(GRU):
    """A model that has no width to set."""

    def __init__(self, input_dim):
        super().__init__(input_dim=input_dim, hidden_dim=8)


def test_a_model_of_one_size_is_named():
    module = MemoryPPO(RunConfig(task="n_back", difficulty="easy", controller=f"{__name__}.OfOneSize"))
    with pytest.raises(UsageError, match="OfOneSize takes no hidden_dim, so its size cannot be set"):
        equal_width(module.config, module.task, 60000)


@pytest.mark.parametrize("controller", ["gru", "lru", "gated_deltanet", "transformer", "mamba2"])
def test_the_networks_have_the_parameters(controller):
    config = RunConfig(task="n_back", difficulty="easy", controller=controller)
    module = MemoryPPO(config)
    width = equal_width(module.config, module.task, 60000)
    wide = MemoryPPO(config, controller_args={"hidden_dim": width})
    found = sum(parameter.numel() for parameter in wide.model.parameters())
    assert abs(found - 60000) <= TOLERANCE * 60000


def test_a_suite_gives_its_models_one_size(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("parameters: 8000\ngrid: {controller: [gru, lru], task: [n_back], seed: [0]}")
    line = f"suite s.yaml --set difficulty=easy {TINY}"
    assert main(line.split()) == 0
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("result.json"))]
    assert [run["controller"] for run in results] == ["gru", "lru"]
    assert all(abs(run["parameters"] - 8000) <= 800 for run in results)
    assert main(line.split()) == 0  # the widths are found again, and the runs are known
    assert "2 of 2 runs finished in runs/s, all before" in capfd.readouterr().out


MISTAKES = {
    "--parameters 3": "no width of gru has about 3 parameters; hidden_dim 4 has",
    "--parameters 1.5": "'1.5' is not a whole number above 0",
    "--parameters 8000 --set controller_args.hidden_dim=4": "controller_args.hidden_dim is 4; leave it out",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(line, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    answer = answer_in(tmp_path, lambda: capfd.readouterr().err)
    assert MISTAKES[line] in answer(*f"suite tiny_sanity --dry_run {line}".split())


def test_a_number_of_parameters_that_is_none_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("parameters: many")
    answer = answer_in(tmp_path, lambda: capfd.readouterr().err)
    assert "parameters: 'many' is not a whole number above 0" in answer("suite", "s.yaml")
