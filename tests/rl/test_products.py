"""Training with products in bfloat16: where it holds, and what a run keeps of it."""

import json
from pathlib import Path

import pytest
import torch

from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.ops.products import check_products
from memsuite.runs import RunConfig
from memsuite.runs.ppo import PPOConfig

SMALL = "--task delayed_cue --difficulty easy --horizon 20 --controller linear_attention --num_envs 128 --steps 12800"


def has_bfloat16() -> bool:
    """Tell whether this machine multiplies in bfloat16."""
    try:
        check_products("bfloat16", torch.device("cpu"))
    except UsageError:
        return False
    return True


needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16, or no op is compiled")


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
    more = [
        "--ppo.products",
        "bfloat16",
        "--steps",
        "25600",
        "--device",
        "cpu",
        "--ckpt_path",
        "last",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["fit", *SMALL.split(), *more]) == 2
    assert "products" in capsys.readouterr().err


def test_a_wrong_precision_is_named():
    """One line, with the valid values."""
    with pytest.raises(UsageError, match=r"ppo\.products 'float16'.*bfloat16, float32"):
        PPOConfig(products="float16")
    assert RunConfig().ppo.products == "float32"
