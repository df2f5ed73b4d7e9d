"""Fixtures that run an op with one instruction set, where this processor has it."""

import pytest
import torch

from memsuite.ops import REFERENCES
from memsuite.ops.build import cpu

# What opcheck itself does from torch 2.14 on: it looks at the gradients of all that it is given, leaves or not.
OF_OPCHECK = "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
LEVELS = {"base": 0, "avx2": 1, "avx512": 2}


def pytest_collection_modifyitems(items):
    for item in items:
        if "opcheck" in getattr(getattr(item, "function", None), "__code__", _take.__code__).co_names:
            item.add_marker(pytest.mark.filterwarnings(OF_OPCHECK))


@pytest.fixture
def compiled():
    """Skip the test where the ops are not compiled; the references then take their place."""
    _need_compiled()


def _need_compiled() -> None:
    if cpu.STATUS.library is None:
        pytest.skip(f"no compiled ops: {cpu.STATUS.reason}")


def _take(level: str) -> int:
    """Set the instruction set, or skip the test; return the number of the best one, to set it again."""
    _need_compiled()
    best = torch.ops.memsuite.kernel_level(-1)
    if torch.ops.memsuite.kernel_level(LEVELS[level]) != LEVELS[level]:
        pytest.skip(f"this processor has no {level}")
    return best


@pytest.fixture(params=LEVELS)
def level(request):
    """Run the compiled ops with one instruction set."""
    best = _take(request.param)
    yield request.param
    torch.ops.memsuite.kernel_level(best)


@pytest.fixture(params=["reference", *LEVELS])
def run(request):
    """Return a function that looks up an op or its backward: the reference, or compiled at one instruction set."""
    if request.param == "reference":
        yield lambda op, backward: REFERENCES[f"{op}_backward" if backward else op]
        return
    best = _take(request.param)
    yield lambda op, backward: getattr(torch.ops.memsuite, f"{op}_backward" if backward else op)
    torch.ops.memsuite.kernel_level(best)
