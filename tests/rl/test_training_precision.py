"""Training with products in bfloat16: where it holds, and what a run keeps of it."""

import json
from pathlib import Path

import pytest
import torch
from bfloat16 import needs_bfloat16

from memsuite.__main__ import main
from memsuite.analysis.results import read_results
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.ops.build import cpu
from memsuite.runs import RunConfig
from memsuite.runs.ppo import PPOConfig

SMALL = "--task delayed_cue --difficulty easy --horizon 20 --controller linear_attention --num_envs 128 --steps 12800"
ON = "--model.ppo.products bfloat16 --steps 25600 --device cpu --ckpt_path last --out"


def fit(out: Path, *more: str) -> dict:
    """Train, and return the result."""
    assert main(["fit", *SMALL.split(), "--device", "cpu", "--out", str(out), *more]) == 0
    return json.loads((out / "result.json").read_text())


@needs_bfloat16
def test_training_is_rounded_and_evaluation_is_not(tmp_path, monkeypatch):
    """An update multiplies in bfloat16, an evaluation in float32; the result says so, as a setting of its own."""
    seen = {"_learn_from_shared": set(), "evaluate": set()}

    def spy(name):
        whole = getattr(MemoryPPO, name)

        def run(self, *given):
            seen[name].add(int(torch.ops.memsuite.bfloat16_products(-1)))
            return whole(self, *given)

        monkeypatch.setattr(MemoryPPO, name, run)

    for name in seen:
        spy(name)
    found = fit(tmp_path / "one", "--model.ppo.products", "bfloat16")
    assert seen == {"_learn_from_shared": {1}, "evaluate": {0}}
    assert found["config"]["ppo"]["products"] == "bfloat16"
    again = fit(tmp_path / "two", "--model.ppo.products", "bfloat16")
    other = fit(tmp_path / "three")
    weights = [torch.load(tmp_path / name / "checkpoints/last.ckpt")["state_dict"] for name in ("one", "two", "three")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not all(torch.equal(weights[0][key], weights[2][key]) for key in weights[0])
    assert again["success"] == found["success"]
    assert other["config"]["ppo"]["products"] == "float32"


def test_a_run_goes_on_in_its_own_precision(tmp_path, capsys):
    """Its numbers would be those of neither."""
    fit(tmp_path / "run")
    assert main(["fit", *SMALL.split(), *ON.split(), str(tmp_path / "run")]) == 2
    assert "model.ppo.products is float32 in the checkpoint, not bfloat16" in capsys.readouterr().err


def test_the_trainers_precision_is_recorded_and_held(tmp_path, capsys, monkeypatch):
    """It decides numbers like any setting; and the last evaluation is in the precision of those on the way."""
    evaluated, whole = [], MemoryPPO.evaluate

    def evaluate(self, *given):
        evaluated.append(torch.is_autocast_enabled("cpu"))
        return whole(self, *given)

    monkeypatch.setattr(MemoryPPO, "evaluate", evaluate)
    for name, precision in (("one", "32-true"), ("two", "bf16-mixed")):
        found = fit(tmp_path / name, "--trainer.precision", precision)
        assert found["precision"] == precision
        assert len(evaluated) >= 2
        assert set(evaluated) == {precision == "bf16-mixed"}
        evaluated.clear()
    runs = read_results(tmp_path / "one", tmp_path / "two")
    assert sorted(runs["variant"]) == ["num_envs=128", "num_envs=128, precision=bf16-mixed"]
    more = ["--steps", "25600", "--device", "cpu", "--ckpt_path", "last", "--out", str(tmp_path / "one")]
    before = (tmp_path / "one" / "config.yaml").read_text()
    assert main(["fit", *more, "--trainer.precision", "bf16-mixed"]) == 2
    assert "trainer.precision is 32-true in the checkpoint, not bf16-mixed" in capsys.readouterr().err
    assert (tmp_path / "one" / "config.yaml").read_text() == before
    assert main(["fit", *more]) == 0


def test_a_wrong_precision_is_named():
    """One line, with the valid values."""
    with pytest.raises(UsageError, match=r"ppo\.products 'float16'.*bfloat16, float32"):
        PPOConfig(products="float16")
    assert RunConfig().ppo.products == "float32"


@needs_bfloat16
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_where_it_would_do_nothing_it_is_refused(tmp_path, capsys, precision):
    """Before the folder of the run is made, so that the next attempt finds it free."""
    given = ["--device", "cpu", "--trainer.precision", precision, "--model.ppo.products", "bfloat16"]
    assert main(["fit", *SMALL.split(), *given, "--out", str(tmp_path / "run")]) == 2
    assert f"is for trainer.precision 32-true; with {precision}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_machine_without_it_says_so_before_the_folder_is_made(tmp_path, capsys, monkeypatch):
    """As on a machine where the ops are not compiled."""
    monkeypatch.setattr(cpu, "STATUS", cpu.Status(None, "MEMSUITE_KERNELS=off"))
    given = ["--device", "cpu", "--model.ppo.products", "bfloat16", "--out", str(tmp_path / "run")]
    assert main(["fit", *SMALL.split(), *given]) == 2
    assert "ppo.products bfloat16 needs the compiled ops (MEMSUITE_KERNELS=off)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_from_before_the_setting_was_made_in_float32(tmp_path, capsys):
    """A checkpoint without the setting does not go on in bfloat16."""
    fit(tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["memsuite"]["config"]["ppo"]["products"]
    torch.save(checkpoint, file)
    assert main(["fit", *SMALL.split(), *ON.split(), str(tmp_path / "run")]) == 2
    assert "model.ppo.products is float32 in the checkpoint, not bfloat16" in capsys.readouterr().err
