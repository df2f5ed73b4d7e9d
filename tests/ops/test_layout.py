"""The laws of the ops' layout: an op has one name, in Python and in csrc, and its sources are short."""

from pathlib import Path

import pytest
import torch

import memsuite.ops
from memsuite.ops import schema
from memsuite.ops.build import cache

CSRC = cache.sources()
SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".cuh"))
ROOM = Path(memsuite.ops.__file__).parent
SHARED = {"common", "bench"}  # folders of csrc that are not ops
HELPERS = {"__init__", "matrix_chunk", "resets"}  # modules that are not ops


def ops() -> list[str]:
    found = {path.stem for room in ("scans", "fused") for path in (ROOM / room).glob("*.py")}
    return sorted(found - HELPERS)


def test_every_op_has_a_folder_of_its_name_and_every_folder_an_op():
    assert ops() == sorted(path.name for path in CSRC.iterdir() if path.is_dir() and path.name not in SHARED)


@pytest.mark.parametrize("op", ops())
def test_the_name_is_that_of_the_function_and_of_the_registered_op(op):
    assert callable(getattr(memsuite.ops, op))
    assert hasattr(torch.ops.memsuite, op)
    assert op in memsuite.ops.REFERENCES


@pytest.mark.parametrize("op", ops())
def test_what_two_bindings_share_is_in_one_place(op):
    files = {path.name for path in (CSRC / op).iterdir()}
    assert {"job.h", "loops.h", "cpu.cpp"} <= files
    assert ("prepare.h" in files) == ("cuda.cpp" in files) == ("cuda.cu" in files)
    assert f'#include "{op}/loops.h"' in (CSRC / "loops.cpp").read_text()
    assert f'#include "{op}/cpu.cpp"' in (CSRC / "bindings.cpp").read_text()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CSRC)))
def test_sources_are_short_and_say_what_they_are(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    assert text.startswith("// ")


def test_a_formula_that_leaves_out_a_gradient_raises():
    """A gradient that is not there would be taken for zero."""
    schema.define("left_out(Tensor x, Tensor y) -> Tensor", lambda x, y: x * y, lambda x, y: x.new_empty(x.shape))
    schema.differentiate(
        "left_out",
        lambda ctx, grad: (grad * ctx.saved_tensors[0], None),
        lambda ctx, given, _: ctx.save_for_backward(given[1]),
    )
    x, y = torch.ones(2, requires_grad=True), torch.ones(2)
    torch.ops.memsuite.left_out(x, y).sum().backward()
    with pytest.raises(RuntimeError, match="left_out has no gradient for its input 1"):
        torch.ops.memsuite.left_out(x, y.requires_grad_()).sum().backward()
