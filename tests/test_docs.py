"""Every command and every Python block of the README and the docs runs as written.

A page is run top to bottom in its own folder, with the repository's ``configs`` and ``results``: files that the page
says to save are saved, Python blocks share their names, and commands run in order. Two things are substituted: a
command
that trains gets a few thousand steps (:data:`TINY`), and a suite, which takes minutes to hours, is only planned
(``--dry_run``); tests/suite runs suites. Commands that are not run are listed with the reason (:data:`NOT_HERE`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from memsuite.__main__ import VERBS, main
from memsuite.controllers import CONTROLLERS
from memsuite.tasks import SECOND, TASKS

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
PAGES["CONTRIBUTING.md"] = ROOT / "CONTRIBUTING.md"
# Appended to every ``memsuite fit`` that begins a run; the last of a repeated option counts.
TINY = ["--steps", "12800", "--num_envs", "32", "--evaluation_episodes", "16", "--device", "cpu"]
# The beginning of a command, and the reason why it is not run here.
NOT_HERE = {
    "make": "the targets are looked up; they run the tests, train for minutes to hours, or are run by other tests",
    "source .venv/bin/activate": "the tests run in that environment",
    "export OMP_NUM_THREADS": "the tests run with one thread",
    "pip install": "tests/test_wheel.py installs a wheel",
    "memsuite compare --models my_module": "tests/analysis/test_compare_guide.py has the runs it needs",
    "memsuite suite easy_v1 --set controller=my_module": "a model that only a reader has; tests/suite/test_changes.py",
    "memsuite submit": "needs finished runs; tests/test_submissions.py makes and checks submissions",
    "wandb": "needs an account; tests/cli/test_run_names.py runs what the sweep's agent would, offline",
    "torchrun": "starts several processes: tests/resuming/test_processes.py runs its like",
    "MASTER_ADDR=": "needs two shells at once: tests/resuming/test_processes.py runs its like",
    "#SBATCH": "needs SLURM",
    "srun": "needs SLURM",
    "memsuite fit --config configs/golden.yaml --device cpu --devices 2": "two processes, as with torchrun",
    "memsuite suite configs/suites/basic_v1.yaml --launcher": "needs an extra; see tests/suite/test_clusters.py",
}
# Commands of more than ten seconds, left to ``make test-slow``. Nothing on the pages uses their output.
SLOW = (
    "memsuite controllers",
    "memsuite report",
    "memsuite compare",
    "memsuite fit --config configs/tasks/",
    "memsuite retention runs/golden ",
    "memsuite fit --task t_maze --difficulty easy --controller",
)
# Lines of Python that need a package beyond the development set-up (``make peers``) are left out without it.
NEEDS = {"gym:popgym": "popgym"}
SAVED = re.compile(r"(?:saved as|here) `([\w.]+)`")


def blocks_of(text: str) -> list[tuple[str, str, str]]:
    """Return the fenced blocks in order: language, content, and the paragraph before."""
    found = []
    for match in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        before = text[: match.start()].rstrip().rsplit("\n\n", 1)[-1]
        found.append((match[1], match[2], before))
    return found


def commands_of(block: str) -> list[str]:
    """Return the commands of a bash block, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#!")]


def reason_not_to_run(command: str) -> str | None:
    return next((reason for begin, reason in NOT_HERE.items() if command.startswith(begin)), None)


def without_what_is_missing(code: str) -> str:
    missing = [text for text, package in NEEDS.items() if importlib.util.find_spec(package) is None]
    return "".join(line for line in code.splitlines(True) if not any(text in line for text in missing))


def run_command(command: str) -> None:
    """Run one command of a page in this process, or look up a target of make."""
    if command.startswith("make "):
        target = shlex.split(command, comments=True)
        subprocess.run([*target, "--dry-run"], cwd=ROOT, check=True, capture_output=True)
        return
    if reason_not_to_run(command):
        return
    program, *arguments = shlex.split(command, comments=True)
    assert program == "memsuite", f"nothing runs {command!r}; run it, or list it with its reason"
    if arguments[0] == "fit":
        arguments += TINY
    if arguments[0] == "suite" and "--dry_run" not in arguments:
        arguments.append("--dry_run")
    assert main(arguments) == 0, command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in; the modules saved there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    for name in [path.stem for path in tmp_path.glob("*.py")]:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.timeout(900)
def test_a_page_runs_as_written(page, slow, folder):
    for name in ("configs", "results", "notebooks"):
        os.symlink(ROOT / name, folder / name)
    names: dict[str, object] = {"__name__": "page"}
    for language, content, before in blocks_of(PAGES[page].read_text()):
        name = SAVED.search(before.replace("\n", " "))
        if name and language in ("python", "yaml"):
            (folder / name[1]).write_text(content)
        elif language == "python":
            exec(compile(without_what_is_missing(content), page, "exec"), names)
        elif language == "bash":
            for command in commands_of(content):
                if slow or not command.startswith(SLOW):
                    run_command(command)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
    text = PAGES[page].read_text()
    for verb in re.findall(r"`memsuite (\w+)", text):
        assert verb in VERBS, verb
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("http") or (PAGES[page].parent / link).exists(), link
    for target in re.findall(r"`make ([\w-]+)`", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for file in re.findall(r"`((?:results|memsuite|tests|configs)/[\w./]+)`", text):
        assert (ROOT / file).exists(), file


FIRST = set(TASKS) - set(SECOND)
FIRST_TABLES = [("controllers", "", CONTROLLERS), ("tasks", "", FIRST), ("tasks", "## The second set", SECOND)]


@pytest.mark.parametrize(("page", "heading", "names"), FIRST_TABLES)
def test_the_first_table_of_the_guide_has_a_line_for_everything_registered(page, heading, names):
    text = PAGES[f"docs/{page}.md"].read_text()
    table = re.search(r"(?:^\|.*\n)+", text[text.index(heading) :], re.MULTILINE)
    assert table
    found = re.findall(r"^\| \[?`(\w+)`", table[0], re.MULTILINE)
    assert sorted(found) == sorted(names)


@functools.cache
def help_of(*verb: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        main([*verb, "--help"])
    return out.getvalue()


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_the_text_have_their_options(page):
    """They are not run, because they name files that only a reader has; those of ``fit`` are run in the blocks."""
    for command in re.findall(r"`memsuite ((?!fit|test|validate)[a-z][^`]*)`", PAGES[page].read_text()):
        verb, *rest = command.split()
        # The options of ``memsuite bench`` are those of its subcommand, which comes first.
        asked = (verb, *rest[:1]) if verb == "bench" and rest else (verb,)
        for option in [word for word in rest if word.startswith("--")]:
            assert re.search(rf"{option}\b", help_of(*asked)), command
