"""docs/compare.md as written, with tiny budgets: from a model of one's own to a figure and a table in LaTeX."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from memsuite.__main__ import main

PAGE = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
FIRST = re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
TINY = "--set steps=3200 --set num_envs=16 --set evaluation_episodes=8 --set model.ppo.draws=4 --set seed=0,1"


def run(command: str) -> None:
    """Run one command of the page, its output in a file if it asks for that."""
    command, _, file = command.partition(" > ")
    program, verb, *words = shlex.split(command)
    assert program == "memsuite"
    words += shlex.split(TINY) if verb == "suite" else []
    with contextlib.ExitStack() as stack:
        if file:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(file).open("w"))))
        assert main([verb, *words]) == 0


def test_there_are_at_most_four_commands_and_the_first_installs():
    assert len(FIRST) <= 4
    assert FIRST[0] == "pip install 'memsuite-rl[report]'"


@pytest.mark.timeout(1200)
def test_the_commands_lead_to_a_figure_and_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_module.py").write_text(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1])
    for command in FIRST[1:]:
        run(command)
    assert len(list(Path("runs/compare_v2").rglob("result.json"))) == 4 * 3 * 2
    assert Path("figure.pdf").read_bytes().startswith(b"%PDF")
    table = Path("table.tex").read_text()
    for task in ("delayed", "n", "assoc"):
        assert f"\n{task}\\_" in table
    assert r"my\_module.MyModel" in table
    assert table.count("paired t") == 3 * 3
    sizes = [int(text.replace(",", "")) for text in re.findall(r"v\d & ([\d,]+)", table)]
    assert len(sizes) == 4
    assert all(abs(size - 60_000) <= 6_000 for size in sizes)
