"""What a number depends on besides its settings: the machine, the versions, the commit and the compiled ops."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsuite.shipped import version

if TYPE_CHECKING:
    import torch


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what the run ran on."""
    import torch

    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": str(device),
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def versions() -> dict[str, str]:
    """Return the versions that the numbers depend on."""
    import torch

    return {
        "memsuite": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": metadata.version("lightning"),
    }


def commit() -> str | None:
    """Return the commit of memsuite's own checkout, with ``-dirty`` if files differ from it; None outside one.

    Results do not count: a series of runs writes them as it goes, and none depends on them.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "-uno", "--", ":(top)", ":(top,exclude)results"]
        tracked = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("-dirty" if tracked.stdout.strip() else "")


def kernels(device: torch.device | None = None) -> dict[str, Any]:
    """Return whether the compiled ops run on the CPU, and the instruction set they were chosen for.

    ``level`` is 0 for what every processor of the kind has, 1 for AVX2, 2 for AVX-512; None without compiled ops. For a
    GPU, ``cuda`` tells whether its compiled kernels run; without them, PyTorch's ops take their place.
    """
    import torch

    from memsuite.ops.build import cuda

    compiled = torch._C._dispatch_has_kernel_for_dispatch_key("memsuite::gru_scan", "CPU")
    found = {"compiled": compiled, "level": int(torch.ops.memsuite.kernel_level(-1)) if compiled else None}
    on_gpu = device is not None and device.type == "cuda"
    return found | ({"cuda": cuda.STATUS.library is not None} if on_gpu else {})
