"""Builds the CUDA kernels on first use and loads them beside the compiled CPU ops, in the same way and the same cache.

Only where torch is built with CUDA and a GPU is there. The C++ compiler makes the binding and ``nvcc`` the kernels,
which know nothing of torch. Without ``nvcc`` the PyTorch references run on the GPU. The kernels have been compiled for
sm_80 and sm_90, and tested in a host emulation; they have not yet run on a GPU.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.ops import _build
from memsuite.ops._build import BuildError, Status
from memsuite.ops._library import LIBRARY, in_full_precision

# No --use_fast_math: not-a-number must survive, and results must agree with the references to rounding.
FLAGS = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
OLDEST = 80  # compute capability, ten times
KERNELS = ("scans", "selective", "gru")
HINT = "on the GPU the ops run on their PyTorch references, many times slower; put nvcc on the PATH or set CUDA_HOME"
logger = logging.getLogger("memsuite")

STATUS = Status(None, "not asked for")


def wanted() -> bool:
    """Tell whether there is anything to build for; asks the driver only if torch could use it."""
    return torch.version.cuda is not None and torch.cuda.device_count() > 0


def nvcc() -> str:
    """Return the path of the CUDA compiler."""
    home = os.environ.get("CUDA_HOME")
    found = shutil.which("nvcc") or (shutil.which("nvcc", path=str(Path(home) / "bin")) if home else None)
    if found is None:
        raise BuildError("no nvcc on the PATH or in CUDA_HOME")
    return found


def architectures() -> list[int]:
    """Return ten times the compute capability of each kind of GPU that is there."""
    found = sorted({10 * major + minor for major, minor in map(torch.cuda.get_device_capability, _devices())})
    if found[0] < OLDEST:
        raise BuildError(f"the CUDA kernels need compute capability {OLDEST / 10} or newer, not {found[0] / 10}")
    return found


def _devices() -> range:
    return range(torch.cuda.device_count())


def library_path(kinds: Iterable[int]) -> Path:
    """Return where the library for these GPUs is or will be."""
    _build._check_platform()
    folder = _build.sources()
    told = [*FLAGS, *map(str, kinds), _build.STABLE_ABI, ".".join(map(str, _build._torch_version()))]
    digest = hashlib.sha256("\0".join(told).encode())
    for path in sorted([folder / "tensors.h", folder / "cpu" / "table.h", *folder.glob("cuda/*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    compilers = _build._compiler_key([nvcc()]) + _build._compiler_key(_build.compiler())
    return _build.cache() / f"cuda-{digest.hexdigest()[:16]}-{compilers}.so"


def compile_commands(
    folder: str,
    kinds: Iterable[int],
    extra: Iterable[str] = (),
    compilers: tuple[str, list[str]] | None = None,
) -> dict[str, list[str]]:
    """Return the command that compiles each object into ``folder``; ``extra`` goes to nvcc."""
    of_kernels, of_binding = compilers or (nvcc(), _build.compiler())
    sources = _build.sources() / "cuda"
    machine = [part for kind in kinds for part in ("-gencode", f"arch=compute_{kind},code=sm_{kind}")]
    found = {
        name: [of_kernels, *FLAGS, *machine, *extra, "-c", str(sources / f"{name}.cu"), "-o", f"{folder}/{name}.o"]
        for name in KERNELS
    }
    headers = str(Path(torch.__file__).parent / "include")
    binding = ["-DUSE_CUDA", f"-DTORCH_TARGET_VERSION={_build.STABLE_ABI}", "-isystem", headers]
    binding += ["-c", str(sources / "binding.cpp"), "-o", f"{folder}/binding.o"]
    return found | {"binding": [*of_binding, *_build.FLAGS, *binding]}


def link_command(folder: str, made: Path) -> list[str]:
    """Return the command that links the objects in ``folder``; CUDA's runtime goes in, torch stays outside."""
    objects = [f"{folder}/{name}.o" for name in (*KERNELS, "binding")]
    # Nothing refers to libtorch by name, but it is what brings libtorch_cuda.
    libraries = [f"-L{Path(torch.__file__).parent / 'lib'}", "-Xlinker", "--no-as-needed", "-ltorch"]
    return [nvcc(), "-shared", *objects, "-o", str(made), *libraries, "-ltorch_cpu", "-lc10"]


# Every op is called once on the GPU, so that what cannot run here never enters the cache.
_TRIAL = """
import os, sys
os.environ["MEMSUITE_KERNELS"] = "off"
import torch
from memsuite.ops import _build_cuda, diagonal_scan, gru_scan, pscan, selective_scan
_build_cuda.register(sys.argv[1])
torch.set_default_device("cuda")
x, reset, h = torch.ones(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool), torch.zeros(3, 4, requires_grad=True)
gru = gru_scan(torch.ones(2, 3, 12), reset, h, torch.ones(12, 4, requires_grad=True), torch.ones(12))
y, _ = selective_scan(x, x, -torch.ones(4, 2), x[..., :2], x[..., :2], reset, h.unsqueeze(2).repeat(1, 1, 2))
(gru + pscan(x, reset, h) + diagonal_scan(torch.ones(4), x, reset, h) + y).sum().backward()
assert h.grad.isfinite().all()
"""


def build(show: Callable[[str], None] = lambda line: None) -> Path:
    """Build the library, whatever the cache holds, and return its path; :class:`BuildError` says why not."""
    kinds = architectures()
    path = library_path(kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
        made = Path(folder) / "library.so"
        show(f"compiling the CUDA kernels for {', '.join(f'sm_{kind}' for kind in kinds)} with nvcc")
        _build._run_all(list(compile_commands(folder, kinds).values()), path)
        _build._run_all([link_command(folder, made)], path)
        show("trying them in a process of its own")
        _build._run_all([[sys.executable, "-c", _TRIAL, str(made)]], path)
        made.write_bytes(made.read_bytes() + hashlib.sha256(made.read_bytes()).digest())
        made.replace(path)
    _build._log_of(path).unlink(missing_ok=True)
    return path


def find_or_build() -> Path:
    """Return a library that may be loaded, from the cache if it is there; :class:`BuildError` says why not."""
    path = library_path(architectures())
    if _build.intact(path):
        return path
    with _build._alone(path.parent):
        if _build.intact(path):
            return path
        if _build._log_of(path).exists():
            raise BuildError(f"an earlier build failed; see {_build._log_of(path)}")
        logger.warning("memsuite: building the CUDA kernels (once, about a minute)")
        return build()


def load() -> Status:
    """Load the CUDA kernels as ``MEMSUITE_KERNELS`` says, if there is a GPU; return what became of it."""
    global STATUS
    chosen = _build.mode()
    if STATUS.library is not None or chosen == "off":
        return STATUS
    if not wanted():
        STATUS = Status(None, "no GPU")
        return STATUS
    try:
        path = find_or_build()
        register(str(path))
        STATUS = Status(path, "loaded")
    except (BuildError, OSError) as error:
        reason = str(error).splitlines()[0]
        if chosen == "require":
            raise UsageError(f"MEMSUITE_KERNELS=require, but {reason}") from error
        logger.warning("memsuite: no CUDA kernels (%s): %s", reason, HINT)
        STATUS = Status(None, reason)
    return STATUS


def register(library: str, key: str = "CUDA") -> None:
    """Load a library of kernels, and add the one op that is part kernel and part matrix product."""
    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    LIBRARY.impl("gru_scan_backward", in_full_precision(_gru_scan_backward), key)  # type: ignore[no-untyped-call]


def _gru_scan_backward(
    grad: Tensor, states: Tensor, gates: Tensor, candidates: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``gi, h0, w_hh, b_hh``: the recurrence is a kernel, the weights matrix products."""
    kind = states.dtype
    if kind in (torch.float16, torch.bfloat16):  # sums over time and batch, too long for these
        wide = [x.float() if x.is_floating_point() else x for x in (grad, states, gates, candidates, reset, h0, w_hh)]
        d_gi, d_h0, d_w, d_b = (x.to(kind) for x in _gru_scan_backward(*wide))
        return d_gi, d_h0, d_w, d_b
    size = states.shape[2]
    flow = torch.ops.memsuite.gru_scan_flow(grad, states, gates, candidates, reset, h0, w_hh)
    d_gi, d_gn, d_h0, previous = flow
    before, of_n = previous.view(-1, size), d_gn.view(-1, size)
    of_rz = d_gi.view(-1, 3 * size)[:, : 2 * size]
    d_w = torch.cat([of_rz.t() @ before, of_n.t() @ before])
    return d_gi, d_h0, d_w, torch.cat([of_rz.sum(0), of_n.sum(0)])
