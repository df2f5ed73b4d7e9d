"""The CUDA sources compile and link for sm_80 and sm_90 where nvcc is, GPU or not; nothing is run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memsuite.ops.build import cache, cuda

EMULATED = Path(__file__).parent / "emulated"
COMPILER = shutil.which("g++") or shutil.which("c++")
needs_nvcc = pytest.mark.skipif(not (shutil.which("nvcc") and COMPILER), reason="no nvcc or no C++ compiler")
# What the library may ask of others. CUDA's runtime is linked in and asks for nothing but libc.
OWNERS = re.compile(r"(aoti_torch_|torch_)\w+|_ITM_\w+TMCloneTable|__gmon_start__|_ZNK?S\w+")
KERNEL = re.compile(r"Compiling entry function '(\S+)' for '(sm_\d+)'(.*?)Used (\d+) registers", re.DOTALL)


@needs_nvcc
@pytest.mark.timeout(1200)  # twenty seconds, but not on a machine that is busy with other things
def test_compiles_without_a_warning_and_links_for_two_generations(tmp_path):
    commands = cuda.compile_commands(str(tmp_path), [80, 90], ["-Xptxas", "-v"])
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = {name: subprocess.Popen(command, **pipe) for name, command in commands.items()}
    said = {name: process.communicate()[0] for name, process in running.items()}
    assert {name: said[name] for name, process in running.items() if process.returncode} == {}
    assert {name: words for name, words in said.items() if "warning" in words.lower()} == {}
    seen = set()
    for name in commands:
        for kernel, machine, words, registers in KERNEL.findall(said[name]):
            seen.add((re.sub(r"\d+", "", kernel), machine))
            assert int(registers) <= 255
            # Training is in float32, whose kernels keep everything in registers; double ones may spill.
            double = re.search(r"Id[EL]", kernel)
            assert double or "0 bytes spill stores, 0 bytes spill loads" in words, (kernel, machine, words)
    assert len(seen) > 20
    library = tmp_path / "library.so"
    subprocess.run(cuda.link_command([command[-1] for command in commands.values()], library), check=True)
    asked = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in asked.splitlines()]
    assert "aoti_torch_get_current_cuda_stream" in names
    libc = re.compile(r"@(GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+$")
    assert [name for name in names if not libc.search(name) and not OWNERS.fullmatch(name)] == []


def test_no_gpu_no_build(monkeypatch):
    monkeypatch.setenv("MEMSUITE_KERNELS", "require")
    monkeypatch.setattr(cuda, "wanted", lambda: False)
    monkeypatch.setattr(cuda, "STATUS", cache.Status(None, "not asked for"))
    assert cuda.load().reason == "no GPU"


@pytest.mark.parametrize("chosen", ["auto", "require"])
def test_a_gpu_without_nvcc(chosen, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("MEMSUITE_KERNELS", chosen)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(cuda, "USUAL", str(tmp_path))
    monkeypatch.setattr(cuda, "wanted", lambda: True)
    monkeypatch.setattr(cuda, "architectures", lambda: [90])
    monkeypatch.setattr(cuda, "STATUS", cache.Status(None, "not asked for"))
    if chosen == "require":
        with pytest.raises(ValueError, match="MEMSUITE_KERNELS=require, but no nvcc"):
            cuda.load()
    else:
        assert cuda.load().reason.startswith("no nvcc")
        assert "PyTorch references" in caplog.text


def test_without_nvcc_what_was_built_before_is_found(monkeypatch, tmp_path):
    """As on a node of a cluster where the toolkit is not loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with monkeypatch.context() as there:
        there.setattr(cuda, "nvcc", lambda: sys.executable)
        there.setattr(cache, "compiler", lambda: [sys.executable])
        path = cuda.library_path([90])
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(cuda, "USUAL", str(tmp_path))
    assert cuda.library_path([90]) == path
    with pytest.raises(cache.BuildError, match="no nvcc"):
        cuda.library_path([80])


def test_nvcc_is_found_where_the_installer_puts_it(monkeypatch, tmp_path):
    program = tmp_path / "bin" / "nvcc"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(cuda, "USUAL", str(tmp_path))
    assert cuda.nvcc() == str(program)


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_a_library_depends_on_every_source_that_is_read(tmp_path):
    """Otherwise a change of a source would leave an old library in use."""
    commands = cuda.compile_commands(str(tmp_path), [], compilers=("nvcc", [COMPILER]))
    host = [COMPILER, "-std=c++17", "-x", "c++", "-I", str(cache.sources()), "-I", str(EMULATED)]
    asked = [
        [*command, "-MM", "-MF", "-"] if name.endswith("_binding") else [*host, "-MM", command[-3]]
        for name, command in commands.items()
    ]
    said = "".join(subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in asked)
    read = {Path(word) for word in said.split() if word.startswith(str(cache.sources()))}
    assert len(read) > len(commands)
    assert read <= set(cuda.source_files())


@pytest.mark.parametrize("error", [RuntimeError, AssertionError])
def test_a_gpu_that_pytorch_cannot_use(error, monkeypatch, caplog):
    """The driver lists a GPU, but is older than PyTorch asks for: the package must still be of use on the CPU."""

    def refuse(device):
        raise error("The NVIDIA driver on your system is too old\n(found version 12020).")

    monkeypatch.setenv("MEMSUITE_KERNELS", "auto")
    monkeypatch.setattr(cuda, "wanted", lambda: True)
    monkeypatch.setattr(cuda, "_devices", lambda: range(1))
    monkeypatch.setattr(cuda.torch.cuda, "get_device_capability", refuse)
    monkeypatch.setattr(cuda, "STATUS", cache.Status(None, "not asked for"))
    assert cuda.load().reason.startswith("PyTorch cannot use the GPU: The NVIDIA driver on your system is too old (")
    assert "memsuite build" in caplog.text


def test_a_gpu_that_is_too_old(monkeypatch):
    monkeypatch.setattr(cuda, "_devices", lambda: range(1))
    monkeypatch.setattr(cuda.torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(cache.BuildError, match=r"8\.0 or newer, not 7\.5"):
        cuda.architectures()
