"""Builds the CUDA kernels on first use and loads them beside the compiled CPU ops, in the same way and the same cache.

Only where torch is built with CUDA and a GPU is there. The C++ compiler makes the bindings and ``nvcc`` the kernels,
which know nothing of torch. Without ``nvcc`` the PyTorch references run on the GPU. The kernels have been compiled for
sm_80 and sm_90, and tested in a host emulation; they have not yet run on a GPU.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from memsuite.ops.build import cache, cpu
from memsuite.ops.build.cache import Status
from memsuite.ops.build.commands import BuildError
from memsuite.ops.scans.resets import states_before
from memsuite.ops.schema import FAKES, LIBRARY, as_promised

# No --use_fast_math: not-a-number must survive, and results must agree with the references to rounding.
FLAGS = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra"]
OLDEST = 80  # compute capability, ten times
USUAL = "/usr/local/cuda"  # where NVIDIA's installer puts the toolkit, often without adding it to the PATH
HINT = (
    "on the GPU the ops run on their PyTorch references, many times slower; nvcc must be on the PATH or in CUDA_HOME; "
    "`memsuite build` tries again and says why not"
)

STATUS = Status(None, "not asked for")


def wanted() -> bool:
    """Tell whether there is anything to build for; asks the driver only if torch could use it."""
    return torch.version.cuda is not None and torch.cuda.device_count() > 0


def nvcc() -> str:
    """Return the path of the CUDA compiler."""
    homes = [home for home in (os.environ.get("CUDA_HOME"), USUAL) if home]
    places = [None, *(str(Path(home) / "bin") for home in homes)]
    found = next((path for place in places if (path := shutil.which("nvcc", path=place))), None)
    if found is None:
        raise BuildError(f"no nvcc on the PATH, in CUDA_HOME or in {USUAL}")
    return found


def architectures() -> list[int]:
    """Return ten times the compute capability of each kind of GPU that is there.

    Raises:
        BuildError: the kernels are not for a GPU so old, or PyTorch cannot use one that the driver lists, as with a
            driver that is older than PyTorch asks for. The package must be of use on the CPU there.
    """
    try:
        found = sorted({10 * major + minor for major, minor in map(torch.cuda.get_device_capability, _devices())})
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        raise BuildError(f"PyTorch cannot use the GPU: {' '.join(str(error).split())[:200]}") from error
    if found[0] < OLDEST:
        raise BuildError(f"the CUDA kernels need compute capability {OLDEST / 10} or newer, not {found[0] / 10}")
    return found


def _devices() -> range:
    return range(torch.cuda.device_count())


def library_path(kinds: Iterable[int]) -> Path:
    """Return where the library for these GPUs is or will be; without a compiler, the one any compilers built."""
    cache.check_platform()
    key = cache.source_key([*FLAGS, *map(str, kinds)], source_files())
    try:
        compilers = cache.compiler_key([nvcc()]) + cache.compiler_key(cache.compiler())
    except BuildError:  # as on a node of a cluster where the toolkit is not loaded
        built = sorted(cache.folder().glob(f"cuda-{key}-*.so"))
        if not built:
            raise
        return built[0]
    return cache.folder() / f"cuda-{key}-{compilers}.so"


def source_files() -> list[Path]:
    """Return the files on whose contents a library depends."""
    folder = cache.sources()
    shared = [folder / "common" / "tensors.h", *folder.glob("*/*job.h"), *folder.glob("*/prepare.h")]
    return [*shared, *folder.glob("*/cuda*")]


def compile_commands(
    folder: str,
    kinds: Iterable[int],
    extra: Iterable[str] = (),
    compilers: tuple[str, list[str]] | None = None,
) -> dict[str, list[str]]:
    """Return the commands that compile each op's kernels and its binding into ``folder``.

    Args:
        folder: of the objects.
        kinds: ten times the compute capability of each kind of GPU.
        extra: further arguments of nvcc.
        compilers: nvcc, and the start of the C++ compiler's command; None for those of this machine.

    Returns:
        The command of each object by its name: that of the op for its kernels, and with ``_binding`` for its binding.
    """
    of_kernels, of_bindings = compilers or (nvcc(), cache.compiler())
    sources = cache.sources()
    machine = [part for kind in kinds for part in ("-gencode", f"arch=compute_{kind},code=sm_{kind}")]
    kernels = [of_kernels, *FLAGS, "-I", str(sources), *machine, *extra]
    bindings = [*of_bindings, *cpu.FLAGS, "-I", str(sources), "-DUSE_CUDA", *cpu.against_torch()]
    found = {}
    for path in sorted(sources.glob("*/cuda.cu")):
        found[path.parent.name] = [*kernels, "-c", str(path)]
    for path in sorted(sources.glob("*/cuda.cpp")):
        found[f"{path.parent.name}_binding"] = [*bindings, "-c", str(path)]
    return {name: [*command, "-o", f"{folder}/{name}.o"] for name, command in found.items()}


def link_command(objects: Iterable[str], made: Path) -> list[str]:
    """Return the command that links the objects; CUDA's runtime goes in, torch stays outside."""
    # No symbol is taken from libtorch itself, but it is what loads libtorch_cuda.
    libraries = [f"-L{Path(torch.__file__).parent / 'lib'}", "-Xlinker", "--no-as-needed", "-ltorch"]
    return [nvcc(), "-shared", *objects, "-o", str(made), *libraries, "-ltorch_cpu", "-lc10"]


def build(show: Callable[[str], None] = lambda line: None) -> Path:
    """Build the library, whatever the cache holds, and return its path; :class:`BuildError` says why not."""
    kinds = architectures()
    path = library_path(kinds)
    with cache.making(path) as made:
        show(f"compiling the CUDA kernels for {', '.join(f'sm_{kind}' for kind in kinds)} with nvcc")
        commands = compile_commands(str(made.parent), kinds)
        cache.compile_all(list(commands.values()), path)
        cache.run_all([link_command([command[-1] for command in commands.values()], made)], path)
        show("trying them in a process of its own")
        cache.try_in_a_process(made, "cuda", path)
    return path


def find_or_build() -> Path:
    """Return a library that may be loaded, from the cache if it is there; :class:`BuildError` says why not."""
    announcement = "building the CUDA kernels (once, a minute or two)"
    return cache.find_or_build(library_path(architectures()), build, announcement)


def load() -> Status:
    """Load the CUDA kernels as ``MEMSUITE_KERNELS`` says, if there is a GPU; return what became of it."""
    global STATUS
    chosen = cache.mode()
    if STATUS.library is not None or chosen == "off":
        return STATUS
    STATUS = cache.load(find_or_build, register, "CUDA kernels", HINT) if wanted() else Status(None, "no GPU")
    return STATUS


def register(library: str, key: str = "CUDA") -> None:
    """Load a library of kernels, and add the ops that are part kernel and part matrix product."""
    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    runs = {"gru_scan": _gru_scan_backward} | {op: _backward_of(op) for op in ("lstm_scan", "elman_scan", "slstm_scan")}
    for op, run in runs.items():
        name = f"{op}_backward"
        LIBRARY.impl(name, as_promised(run, FAKES[name]), key)


def _gru_scan_backward(
    grad: Tensor, states: Tensor, gates: Tensor, candidates: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``gi, h0, w_hh, b_hh``: the recurrence is a kernel, the weights matrix products."""
    size = states.shape[2]
    d_gi, d_gn, d_h0, previous = torch.ops.memsuite.gru_scan_flow(grad, states, gates, candidates, reset, h0, w_hh)
    before, of_n = previous.view(-1, size), d_gn.view(-1, size)
    of_rz = d_gi.view(-1, 3 * size)[:, : 2 * size]
    d_w = torch.cat([of_rz.t() @ before, of_n.t() @ before])
    return d_gi, d_h0, d_w, torch.cat([of_rz.sum(0), of_n.sum(0)])


def _backward_of(op: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return the backward pass of an op whose kernel leaves out the gradients of the weights and biases.

    What the kernel returns comes first, ``d_gi`` before all; the arguments are those of the op's backward pass.
    """
    backward, flow = (getattr(torch.ops.memsuite, f"{op}_{part}").default for part in ("backward", "flow"))
    names = [argument.name for argument in backward._schema.arguments]

    def run(*given: Tensor | None) -> tuple[Tensor, ...]:
        its = dict(zip(names, given, strict=True))
        found = flow(*given)
        return *found, *_of_weights(found[0], its["states"], its["reset"], its["h0"])

    return run


def _of_weights(d_gi: Tensor, states: Tensor, reset: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of recurrent weights and biases whose products have the gradient ``d_gi`` ``[T, B, G]``."""
    before = states_before(h0, states, slice(0, len(states)), reset.unsqueeze(-1))
    flat = d_gi.flatten(0, 1)
    return flat.t() @ before.flatten(0, 1), flat.sum(0)
