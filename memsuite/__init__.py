"""memsuite: measure long-horizon memory in recurrent networks, state space models and attention.

Nothing is imported or computed before it is used, so that ``memsuite --help`` answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memsuite.controllers import make_controller, wrap
    from memsuite.loading import load
    from memsuite.tasks import get_benchmark_suite, get_task_config, make_task

    __version__: str  # of the installed distribution

__all__ = ["__version__", "get_benchmark_suite", "get_task_config", "load", "make_controller", "make_task", "wrap"]

_HOMES = {
    "load": "memsuite.loading",
    "make_controller": "memsuite.controllers",
    "wrap": "memsuite.controllers",
    "make_task": "memsuite.tasks",
    "get_task_config": "memsuite.tasks",
    "get_benchmark_suite": "memsuite.tasks",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("memsuite.shipped").version()
    if name not in _HOMES:
        raise AttributeError(f"module 'memsuite' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
