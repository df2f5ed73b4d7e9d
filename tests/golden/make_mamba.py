"""Write ``mamba.pt`` and ``mamba2.pt``: the outputs of the blocks of the real ``mamba-ssm`` package.

Run it in an environment with torch; most of the package's own dependencies are not needed::

    pip install setuptools wheel packaging ninja einops 'huggingface_hub<1'
    pip install --no-deps triton
    MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE pip install --no-deps --no-build-isolation mamba-ssm
    python tests/golden/make_mamba.py

The package does not import without its CUDA extension, and its kernels do not run without a GPU. A stub therefore
replaces the extension, modules are imported without the package's ``__init__`` (which imports all its models), and the
package's own references replace its kernels. The files record, in float32: the package's version, the sizes, the
parameters (with noise, so that none is at a neutral value), an input, the output, the gradients of a random projection
of the output, and the outputs and final states of the block's own ``step`` on the same input.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
SIZES = {
    "mamba": {"d_model": 24, "d_state": 16, "d_conv": 4, "expand": 2},
    "mamba2": {"d_model": 24, "d_state": 16, "d_conv": 4, "expand": 2, "headdim": 16},
}
STEPS, BATCH, CHUNK = 24, 2, 8


def enter_package() -> None:
    """Make the package's modules importable one by one; raise ImportError where it is not installed."""
    try:
        importlib.import_module("mamba_ssm")
    except ImportError:
        spec = importlib.util.find_spec("mamba_ssm")
        if spec is None or spec.submodule_search_locations is None:
            raise
        beside = types.ModuleType("mamba_ssm")
        beside.__spec__, beside.__path__ = spec, list(spec.submodule_search_locations)
        sys.modules["mamba_ssm"] = beside
        sys.modules.setdefault("selective_scan_cuda", types.ModuleType("selective_scan_cuda"))


def build(name: str) -> nn.Module:
    """Build a block of the package, with noise on its parameters."""
    if name == "mamba":
        cls, extra = importlib.import_module("mamba_ssm.modules.mamba_simple").Mamba, {"use_fast_path": False}
    else:
        cls = importlib.import_module("mamba_ssm.modules.mamba2").Mamba2
        extra = {"use_mem_eff_path": False, "chunk_size": CHUNK}
    block: nn.Module = cls(**SIZES[name], **extra)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return block


def references() -> ExitStack:
    """Replace the package's kernels by its references, until the returned context is left."""
    modules = {
        name: importlib.import_module(f"mamba_ssm.{name}")
        for name in ("modules.mamba_simple", "modules.mamba2", "ops.triton.ssd_combined", "ops.triton.layernorm_gated")
    }
    scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_ref
    chunked = modules["ops.triton.ssd_combined"].ssd_chunk_scan_combined_ref

    def chunk_scan(*args: Any, seq_idx: None, cu_seqlens: None, **kwargs: Any) -> Any:
        for only_inference in ("return_final_states", "return_varlen_states"):
            assert not kwargs.pop(only_inference)
        return chunked(*args, **kwargs)

    stack = ExitStack()
    norm = modules["ops.triton.layernorm_gated"]
    stack.enter_context(patch.object(norm, "rmsnorm_fn", norm.rms_norm_ref))
    stack.enter_context(patch.object(modules["modules.mamba_simple"], "selective_scan_fn", scan))
    stack.enter_context(patch.object(modules["modules.mamba2"], "mamba_chunk_scan_combined", chunk_scan))
    for module in (modules["modules.mamba_simple"], modules["modules.mamba2"]):
        for kernel in ("causal_conv1d_fn", "causal_conv1d_update", "selective_state_update"):
            stack.enter_context(patch.object(module, kernel, None))
    return stack


def record(name: str, seed: int) -> dict[str, Any]:
    """Run a block of the package on the CPU; everything is batch first, as it is there."""
    enter_package()
    torch.manual_seed(seed)
    block = build(name)
    x = torch.randn(BATCH, STEPS, SIZES[name]["d_model"], requires_grad=True)
    grad_y = torch.randn(x.shape)
    with references():
        y = block(x)
        y.backward(grad_y)
        with torch.no_grad():
            steps, conv, ssm = run_steps(block, x)
    parameters = dict(block.named_parameters())
    return {
        "version": importlib.metadata.version("mamba-ssm"),
        "sizes": SIZES[name],
        "parameters": {key: value.detach() for key, value in parameters.items()},
        "x": x.detach(),
        "y": y.detach(),
        "grad_y": grad_y,
        "grad_x": x.grad,
        "grads": {key: value.grad for key, value in parameters.items()},
        "steps": steps,
        "conv": conv,
        "ssm": ssm,
    }


def run_steps(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outputs of the block's own ``step``, and the states after the last."""
    conv, ssm = block.allocate_inference_cache(len(x), x.shape[1])
    outputs = []
    for x_t in x.split(1, dim=1):
        y, conv, ssm = block.step(x_t, conv, ssm)
        outputs.append(y)
    return torch.cat(outputs, dim=1), conv.contiguous(), ssm.contiguous()


if __name__ == "__main__":
    for file in SIZES:
        recorded = record(file, seed=0)
        torch.save(recorded, HERE / f"{file}.pt")
        size = (HERE / f"{file}.pt").stat().st_size
        print(f"{file}.pt: mamba-ssm {recorded['version']}, {size} bytes")
