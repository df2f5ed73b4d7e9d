"""A run can be opened anywhere: on a machine without its GPU, its YAML, or the packages it was made with."""

import sys

import pytest
import torch
from torch.utils import _pytree as pytree

import memsuite
from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.runs.checkpoints import read_checkpoint

LINE = "fit --task delayed_cue --difficulty easy --horizon 8 --num_envs 4 --steps 64 --evaluation_episodes 8"


@pytest.fixture(scope="module", params=["gru", "mamba2"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / request.param
    more = f"--device cpu --controller {request.param} --controller_args.hidden_dim 16"
    assert main([*f"{LINE} {more}".split(), "--out", str(folder)]) == 0
    (folder / "config.yaml").unlink()
    return folder


@pytest.fixture
def from_gpu(run, tmp_path, monkeypatch):
    """The same run as saved on a machine with a GPU: every tensor is marked as on ``cuda:0``."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    (tmp_path / "checkpoints").mkdir()
    torch.save(checkpoint, tmp_path / "checkpoints" / "last.ckpt")
    return tmp_path


def test_a_folder_and_its_checkpoint_are_the_same_run(run):
    modules = [memsuite.load(path) for path in (run, str(run / "checkpoints" / "last.ckpt"))]
    for module in modules:
        assert not module.training
        assert module.task.horizon == 8
        assert module.model.controller.input_dim == module.task.observation_dim
        assert module.iteration == 2
        assert 0 <= module.evaluate(16, "fresh")["success"] <= 1
    for one, other in zip(*(module.parameters() for module in modules), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what a machine without a GPU does")
def test_a_checkpoint_of_cuda_tensors_opens_without_a_gpu(run, from_gpu):
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(from_gpu / "checkpoints" / "last.ckpt", weights_only=True)
    module, own = memsuite.load(from_gpu), memsuite.load(run)
    assert all(leaf.device.type == "cpu" for leaf in module.state_dict().values())
    tensors = pytree.tree_leaves(read_checkpoint(from_gpu / "checkpoints" / "last.ckpt"))
    assert all(leaf.device.type == "cpu" for leaf in tensors if isinstance(leaf, torch.Tensor))
    assert module.evaluate(16, "fresh") == own.evaluate(16, "fresh")


def test_nothing_of_mamba_ssm_is_in_a_checkpoint_or_asked_for(run, monkeypatch):
    """The parameters have the package's names but belong to memsuite; the package's kernels are optional."""
    before = memsuite.load(run).evaluate(16, "fresh")
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)  # so that any import of the package fails
    assert memsuite.load(run).evaluate(16, "fresh") == before


def test_a_run_whose_class_is_gone_says_so(run, tmp_path):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["memsuite"]["config"]["controller"] = "gone_with_the_wind.Memory"
    torch.save(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(UsageError, match="gone_with_the_wind"):
        memsuite.load(tmp_path / "x.ckpt")


def without_run(checkpoint: dict) -> None:
    """Keep only the weights, as ``ModelCheckpoint(save_weights_only=True)`` does."""
    del checkpoint["loops"], checkpoint["optimizer_states"], checkpoint["lr_schedulers"]


CHANGES = {
    "as it is now: model.actor.bias is [16] here and [3] there": lambda saved: saved["state_dict"].update(
        {"model.actor.bias": torch.zeros(3)}
    ),
    "model.norm.weight is [16] here and missing there": lambda saved: saved["state_dict"].pop("model.norm.weight"),
    "old is missing here and [] there": lambda saved: saved["state_dict"].update(old=torch.zeros(())),
    "another version of memsuite: it has ppo.rate": lambda saved: saved["memsuite"]["config"]["ppo"].update(rate=1),
}


@pytest.mark.parametrize("answer", CHANGES)
@pytest.mark.parametrize("line", ["test --ckpt_path c.ckpt", "fit --ckpt_path c.ckpt --out new", "retention c.ckpt"])
def test_a_checkpoint_of_another_network_or_version_is_told_in_one_line(
    run, answer, line, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    CHANGES[answer](saved)
    torch.save(saved, "c.ckpt")
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_weights_alone_are_evaluated_and_not_gone_on_from(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    without_run(saved)
    torch.save(saved, "c.ckpt")
    assert main(["test", "--ckpt_path", "c.ckpt", "--device", "cpu"]) == 0
    assert main(["fit", "--ckpt_path", "c.ckpt", "--out", "new"]) == 2
    assert "a run cannot go on from it" in capsys.readouterr().err
