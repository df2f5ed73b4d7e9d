"""A library is code: one that others could have written is not loaded, and a build leaves nothing behind."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memsuite.ops.build import cache
from memsuite.ops.build.cache import find_or_build, intact, make_own, making
from memsuite.ops.build.commands import BuildError, run_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the compiled ops are for Linux")
SLEEPER = "#!/bin/sh\nsleep 300 & echo $! >> {}\nwait\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "memsuite"


def build(path: Path) -> Path:
    with making(path) as made:
        made.write_bytes(b"a library")
    return path


def test_the_folder_is_ours_alone(place):
    path = build(place / "x.so")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not path.stat().st_mode & 0o022
    assert intact(path)


@pytest.mark.parametrize("mode", [0o666, 0o775, 0o757])
def test_a_library_that_others_can_write_is_built_anew(place, mode, caplog):
    path = build(place / "x.so")
    path.chmod(mode)
    assert not intact(path)
    assert find_or_build(path, lambda: build(path), "building") == path
    assert intact(path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_so_is_one_in_a_folder_that_others_can_write(place, mode):
    path = build(place / "x.so")
    (place / "planted.so").write_bytes(path.read_bytes())
    place.chmod(mode)
    assert not intact(path)
    make_own(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not list(place.glob("*.so"))  # whoever could write there may have left them


def test_what_another_user_owns_is_not_loaded(place, monkeypatch):
    path = build(place / "x.so")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert intact(path) == (path.stat().st_uid == 0)  # root's are loaded by all
    with pytest.raises(BuildError, match="belongs to another user; set XDG_CACHE_HOME"):
        make_own(place)
    if os.getuid() == 0:
        monkeypatch.undo()
        os.chown(path, 12345, 12345)
        assert not intact(path)


def gone(pids: Path) -> bool:
    """Tell whether the processes whose numbers a file holds have ended."""
    for number in pids.read_text().split():
        state = Path(f"/proc/{number}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
            return False
    return True


def until(holds) -> None:
    limit = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.02)


# Another thread receives the signal, so that the one that waits for the compilers is not woken by it.
ELSEWHERE = """
def later():
    while not (Path({pids!r}).exists() and Path({pids!r}).read_text().split()):
        time.sleep(0.02)
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
import signal, threading, time
threading.Thread(target=later, daemon=True).start()
"""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["to the process", "to another thread"])
def test_sigterm_leaves_no_compilers_and_no_folder(place, tmp_path, elsewhere):
    compiler, pids = tmp_path / "slow", tmp_path / "pids"
    compiler.write_text(SLEEPER.format(pids))
    compiler.chmod(0o755)
    code = "import sys; from pathlib import Path; from memsuite.ops.build import cache\n"
    code += ELSEWHERE.format(pids=str(pids)) if elsewhere else ""
    code += f"path = Path({str(place / 'x.so')!r})\n"
    code += f"with cache.making(path): cache.run_all([[{str(compiler)!r}]] * 3, path)"
    env = os.environ | {"MEMSUITE_KERNELS": "off", "PYTHONPATH": str(Path(cache.__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True)
    until(pids.exists)
    until(lambda: len(pids.read_text().split()) >= 1)
    if not elsewhere:
        process.terminate()
    said = process.communicate(timeout=20)[1]
    assert (process.returncode, said) == (-signal.SIGTERM, "")
    until(lambda: gone(pids))
    assert not list(place.glob("*"))


def test_a_command_that_fails_ends_the_others(tmp_path):
    compiler, pids = tmp_path / "slow", tmp_path / "pids"
    compiler.write_text(SLEEPER.format(pids))
    compiler.chmod(0o755)
    until_started = f"while [ ! -s {pids} ]; do sleep 0.02; done; exit 3"
    began = time.monotonic()
    with pytest.raises(BuildError, match="failed with status 3; see "):
        run_all([["sh", "-c", until_started], [str(compiler)]], tmp_path / "x.log")
    assert time.monotonic() - began < 10
    until(lambda: gone(pids))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'x.s: No space left on device' >&2; exit 1", "no space left"),
        ("echo 'virtual memory exhausted: Cannot allocate memory'; exit 1", "memory exhausted"),
        ("echo 'CUDA error: CUDA-capable device(s) is/are busy or unavailable'; exit 1", "busy or unavailable"),
        ("kill -9 $$", "was ended by SIGKILL"),
    ],
)
def test_what_failed_for_want_of_room_is_tried_again(tmp_path, script, words):
    with pytest.raises(BuildError, match=f"{words}.*; it is tried again the next time"):
        run_all([["sh", "-c", script]], tmp_path / "x.log")
    assert not (tmp_path / "x.log").exists()
