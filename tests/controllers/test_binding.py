"""Models that begin with queries like keys: a repeated item retrieves the step at which it was shown."""

import inspect

import pytest
import torch

from memsuite.__main__ import main
from memsuite.controllers import CONTROLLERS, make_controller

ITEMS, BLANK, ROWS, WIDTH = 8, 4, 200, 32
BINDING = [name for name, cls in CONTROLLERS.items() if "binding" in inspect.signature(cls).parameters]


def found(name: str, **arguments: object) -> float:
    """Return how often the step that was shown with the question matters most for the answer, untrained.

    Each step shows a pair, the sum of an item and a label. After blank steps, which no convolution looks back over, an
    item comes again, alone, and the step whose input changes the output the most is taken for the one that was
    retrieved. Where keys read the step before (``gated_deltanet``), it may be the one after the item.
    """
    torch.manual_seed(0)
    sizes = {"hidden_dim": 128, "depth": 1} | arguments
    model = make_controller(name, input_dim=WIDTH, memory_horizon=ITEMS, **sizes)
    items, labels = torch.randn(2, ITEMS, ROWS, WIDTH)
    shown = (items + labels).requires_grad_()
    asked = torch.randint(ITEMS, (ROWS,))
    first = torch.zeros(ITEMS + BLANK + 1, ROWS, dtype=torch.bool)
    first[0] = True
    sequence = torch.cat([shown, torch.zeros(BLANK, ROWS, WIDTH), items[asked, torch.arange(ROWS)].unsqueeze(0)])
    features, _ = model.forward_sequence(sequence, model.init_state(ROWS), first)
    (features[-1] * torch.randn(ROWS, features.shape[-1])).sum().backward()
    best = shown.grad.square().sum(-1).argmax(0)
    return float(((best == asked) | (best == asked + 1)).float().mean())


def test_the_models_with_queries_and_keys_have_it():
    """Those that bind without it do so with every horizon (delta_rule.py, gated_deltanet.py)."""
    assert set(BINDING) == {"linear_attention", "mlstm", "mamba2", "transformer", "fox", "gtrxl", "rwkv7", "mamba3"}


@pytest.mark.parametrize("name", BINDING)
def test_a_repeated_item_retrieves_its_step(name):
    """Without it that is chance, two in eight; with it clearly more."""
    without, with_it = found(name), found(name, binding=True)
    assert without < 0.3
    assert with_it > 0.35


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_so_do_the_models_that_begin_so_anyway(name):
    """The measure sees what they do."""
    assert found(name) > 0.5


def test_a_run_from_before_it_goes_on_without_it(tmp_path, capsys):
    """A checkpoint that lacks the argument was made without it; with it the run is another one."""
    given = "fit --task delayed_cue --horizon 20 --controller linear_attention --num_envs 128 --device cpu"
    out = ["--out", str(tmp_path / "run")]
    assert main([*given.split(), "--steps", "5120", *out]) == 0
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["memsuite"]["config"]["controller_args"]["binding"]
    torch.save(checkpoint, file)
    on = [*given.split(), "--steps", "10240", "--ckpt_path", "last", *out]
    assert main([*on, "--controller_args.binding", "true"]) == 2
    assert "controller_args is" in capsys.readouterr().err
    assert main(on) == 0
