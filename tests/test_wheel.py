"""What is built is whole: from the wheel every command of the README runs, without a clone, a compiler or a home.

The wheel is installed without its dependencies into an environment of its own, which borrows the packages of this one
by a path file; memsuite itself is the wheel's. The source distribution is unpacked, and its tests are run there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from index_page import for_index
from test_docs import ROOT, TINY, blocks_of, commands_of

SECTIONS = ("Install", "Train an agent", "Run a grid", "Compare models")
SUITE = ["--set", "steps=64000", "--set", "num_envs=16", "--set", "evaluation_episodes=8", "--set", "model.ppo.draws=4"]
# Tests of the source distribution that read its files: results, configurations, notebooks, docs and the Makefile.
OF_FILES = ["test_shipped.py", "test_tables.py", "test_published.py", "test_house.py", "suite/test_grid.py"]
OF_FILES += ["suite/test_guide.py", "test_measurements.py", "test_controls.py", "test_notebooks.py", "test_site.py"]


def call(*words: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command, and fail with what it said if it fails."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Return a folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    pip = subprocess.run([python, "-m", "pip", "install", "--quiet", "hatchling>=1.24"], capture_output=True, text=True)
    if pip.returncode:
        pytest.skip("there is no index to install hatchling from, which builds the package")
    call(python, "-m", "hatchling", "build", "-d", folder / "dist", cwd=ROOT)
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """Return the folder of commands of an environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    call(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=folder)
    own = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip()
    (Path(own) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def surroundings(installed: Path, tmp_path: Path, kind: str) -> dict[str, str]:
    """Return the environment variables of a user who has only the wheel."""
    names = ("PYTHONPATH", "XDG_CACHE_HOME", "XDG_STATE_HOME", "CXX", "VIRTUAL_ENV", "MEMSUITE_KERNELS")
    env = {name: value for name, value in os.environ.items() if name not in names and not name.startswith("PYTEST")}
    (tmp_path / "home").mkdir()
    (tmp_path / "file").touch()
    env |= {"HOME": str(tmp_path / "home"), "PATH": f"{installed}:{env['PATH']}", "OMP_NUM_THREADS": "1"}
    if kind == "without a compiler":
        env["PATH"] = str(installed)
    if kind == "without a home that can be written":  # this also holds for root, whom no mode of a folder stops
        env["HOME"] = str(tmp_path / "file" / "home")
    return env


def parts() -> list[tuple[str, str]]:
    """Return the blocks of the sections of the README that a user of the wheel follows."""
    text = (ROOT / "README.md").read_text()
    found = []
    for name in SECTIONS:
        section = re.search(rf"^## {name}\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE)
        assert section, name
        found += [(language, content) for language, content, _ in blocks_of(section[1])]
    return found


def words_of(command: str) -> list[str]:
    """Return a command of the README with a tiny budget; empty for one that only a clone or a shell has."""
    words = shlex.split(command, comments=True)
    if words[0] in ("make", "export", "pip"):
        return []
    assert words[0] == "memsuite", command
    if words[1] == "fit":
        words += TINY
    if words[1] == "suite" and "--list" not in words:
        words += SUITE
    return words


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["as usual", "without a compiler", "without a home that can be written"])
def test_every_command_of_the_readme_runs_from_the_wheel(kind, installed, tmp_path):
    empty, env, ran, said = tmp_path / "empty", surroundings(installed, tmp_path, kind), 0, ""
    empty.mkdir()
    where = call(installed / "python", "-c", "import memsuite; print(memsuite.__file__)", cwd=empty, env=env).stdout
    assert where.startswith(str(installed.parent)), "the memsuite that is tested is not the wheel's"
    for language, content in parts():
        if language == "python":
            call(installed / "python", "-c", content, cwd=empty, env=env)
        for command in commands_of(content) if language == "bash" else []:
            if words := words_of(command):
                done = call(installed / words[0], *words[1:], cwd=empty, env=env)
                ran, said = ran + 1, said + done.stderr
    assert ran >= 9
    assert "Traceback" not in said
    if kind == "as usual":
        assert "no compiled ops" not in said
    elif kind == "without a compiler":
        assert "no C++ compiler (g++) on the PATH" in said
    else:
        assert "set XDG_CACHE_HOME to a folder that can be written" in said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_wheel_holds_what_is_found_by_name_and_says_what_it_is(built):
    (wheel,) = built.glob("*.whl")
    assert wheel.name.startswith("memsuite_rl-")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (about,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = file.read(about).decode()
    for folder in ("configs", "results"):
        here = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {f"memsuite/_shipped/{name}" for name in here} <= names
    assert not [name for name in names if name.startswith(("tests/", "configs/", "results/", "csrc/"))]
    assert "\nName: memsuite-rl\n" in metadata
    assert "Programming Language :: Python :: 3.13" in metadata
    assert "Requires-Dist: matplotlib>=3.8; extra == 'report'" in metadata
    assert not re.findall(r"\]\((?!https?://|#)", metadata), "a link that leads nowhere on an index"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_tests_of_the_source_distribution_run(built, tmp_path):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    pytest_of = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    call(*pytest_of, "--collect-only", cwd=folder, env=env)
    call(*pytest_of, "-m", "not slow and not learns", *(f"tests/{name}" for name in OF_FILES), cwd=folder, env=env)


def test_the_index_page_has_no_link_that_leads_nowhere():
    readme = (ROOT / "README.md").read_text()
    alone = for_index(readme)
    assert "![" not in alone
    assert "docs/compare.md leads" in alone.replace("\n", " ")
    assert "](https://github.com/smorad/memax)" in alone  # links to elsewhere stay
    page = for_index(readme, "https://host.invalid/o/n/")
    assert "](https://host.invalid/o/n/raw/HEAD/docs/images/map.png)" in page
    assert "[docs/compare.md](https://host.invalid/o/n/blob/HEAD/docs/compare.md)" in page
    for text in (alone, page):
        assert not re.findall(r"\]\((?!https?://)", text)
