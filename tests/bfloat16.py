"""Whether this machine multiplies in bfloat16, for the tests of it."""

import pytest
import torch

from memsuite.errors import UsageError
from memsuite.ops.products import check_products


def has_bfloat16() -> bool:
    """Tell whether the ops are compiled and the processor has the instruction."""
    try:
        check_products("bfloat16", torch.device("cpu"))
    except UsageError:
        return False
    return True


needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16, or no op is compiled")
