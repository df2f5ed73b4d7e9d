"""The builder: the meaning of MEMSUITE_KERNELS, no compiler, a broken cache, several processes at once."""

import os
import shutil
import subprocess
import sys

import pytest

from memsuite.ops.build import cache, cpu

COMPILER = shutil.which("g++") or shutil.which("c++") or os.environ.get("CXX")
needs_compiler = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="no C++ compiler")
IMPORT = """
import torch
from memsuite.ops import pscan
from memsuite.ops.build import cpu
print(cpu.STATUS.library, pscan(torch.ones(1, 1, 2), torch.zeros(1, 1) > 0, torch.zeros(1, 2)).tolist())
"""


def start(code: str, home: str, path: str | None = None, **settings: str) -> subprocess.Popen:
    inherited = {name: value for name, value in os.environ.items() if name not in ("MEMSUITE_KERNELS", "CXX")}
    package = str(cache.sources().parent)
    env = inherited | {"XDG_CACHE_HOME": home, "PYTHONPATH": package} | settings
    if path is not None:
        env["PATH"] = path
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=pipe, stderr=pipe, text=True)


def run(code: str, home: str, path: str | None = None, **settings: str) -> tuple[int, str, str]:
    process = start(code, home, path, **settings)
    out, err = process.communicate()
    return process.returncode, out, err


def test_off_builds_nothing_and_says_nothing(tmp_path):
    status, out, err = run(IMPORT, str(tmp_path), MEMSUITE_KERNELS="off")
    assert status == 0
    assert out.startswith("None [[[0.76")
    assert err == ""
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_one_hint_and_the_references(tmp_path):
    status, out, err = run(IMPORT, str(tmp_path), path=str(tmp_path))
    assert status == 0
    assert out.startswith("None [[[0.76")
    assert len(err.strip().splitlines()) == 1
    assert "no C++ compiler" in err
    assert "memsuite build" in err


def test_required_without_a_compiler_is_an_error_of_one_line(tmp_path):
    code = "import sys; from memsuite.__main__ import main; sys.exit(main(['controllers']))"
    status, _, err = run(code, str(tmp_path), path=str(tmp_path), MEMSUITE_KERNELS="require")
    assert status == 2
    assert err.strip().splitlines()[-1].endswith("MEMSUITE_KERNELS=require, but no C++ compiler (g++) on the PATH")


def test_a_mode_that_is_none(monkeypatch):
    monkeypatch.setenv("MEMSUITE_KERNELS", "maybe")
    with pytest.raises(ValueError, match="valid values: auto, require, off"):
        cache.mode()


def test_build_says_why_not(tmp_path):
    code = "import sys; from memsuite.__main__ import main; sys.exit(main(['build']))"
    status, out, _ = run(code, str(tmp_path), path=str(tmp_path))
    assert status == 1
    assert "not built: no C++ compiler" in out


@needs_compiler
def test_a_failed_build_is_told_and_not_tried_again(tmp_path):
    bad = tmp_path / "g++"
    bad.write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    bad.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    status, out, err = run(IMPORT, str(tmp_path / "cache"), path=path)
    assert (status, out[:4]) == (0, "None")
    assert "failed with status 1; see " in err
    log = next((tmp_path / "cache").rglob("*.log"))
    assert "no room" in log.read_text()
    _, _, err = run(IMPORT, str(tmp_path / "cache"), path=path)
    assert "an earlier build failed" in err


@pytest.mark.usefixtures("compiled")
def test_the_ops_were_compiled_without_a_warning():
    kept = cache.warnings_of(cpu.STATUS.library)
    assert not kept.exists(), kept.read_text()


@needs_compiler
def test_warnings_are_kept_beside_the_library_and_go_with_it(tmp_path):
    source, library = tmp_path / "source.cpp", tmp_path / "library.so"
    command = [*cache.compiler(), "-Wall", "-c", str(source), "-o", str(tmp_path / "object.o")]
    for text, warned in (("static int unused;", True), ("int used;", False)):
        source.write_text(text)
        cache.compile_all([command], library)
        assert cache.warnings_of(library).exists() == warned
        assert not warned or "unused" in cache.warnings_of(library).read_text()


# A compiler that takes a second for an object without content, and links the library that is there already.
STAND_IN = """#!/bin/sh
case " $* " in
*" -c "*) sleep 1; shift $(($# - 1)); : > "$1";;
*" -shared "*) while [ "$1" != -o ]; do shift; done; cp {library} "$2";;
*) exec {compiler} "$@";;
esac
"""


@needs_compiler
def test_four_processes_mend_a_broken_cache_at_once(tmp_path, monkeypatch):
    """Half a library is never loaded; one of the processes builds, the others wait for it."""
    quick = tmp_path / "quick"
    quick.write_text(STAND_IN.format(library=cpu.find_or_build(), compiler=COMPILER))
    quick.chmod(0o755)
    monkeypatch.setenv("CXX", str(quick))
    broken = tmp_path / "memsuite" / cpu.library_path().name
    broken.parent.mkdir()
    broken.write_bytes(b"\x7fELF" + bytes(4000))
    processes = [start(IMPORT, str(tmp_path), MEMSUITE_KERNELS="require", CXX=str(quick)) for _ in range(4)]
    said = [process.communicate() for process in processes]
    found = [log.read_text() for log in broken.parent.glob("*.log")]
    assert ([process.returncode for process in processes], found) == ([0] * 4, [])
    assert all(out.startswith(f"{broken} [[[0.76") for out, _ in said)
    assert sum("building the compiled ops" in err for _, err in said) == 1
    assert cache.intact(broken)
    assert sorted(path.name for path in broken.parent.iterdir()) == [broken.name, "lock"]
