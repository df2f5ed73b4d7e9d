"""The guide's suite has the described runs, and its command lines are understood as written."""

import re
import shlex

import pytest
from test_grid import ROOT

from memsuite.__main__ import main

GUIDE = (ROOT / "docs" / "suites.md").read_text()
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", GUIDE, flags=re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(command, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(command)
    assert program == "memsuite"
    assert main([*words, "--dry_run"]) == 0
    assert "environment steps; still to do" in capfd.readouterr().out


def test_the_example(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["suite", "mine.yaml", "--dry_run"]) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("memsuite fit")]
    assert [line.split("--out runs/my_suite/")[1].split()[0] for line in lines] == [
        "delayed_cue-medium-H50/gru/seed0",
        "delayed_cue-medium-H50/gru/seed1",
        "delayed_cue-medium-H50/pseudo_mamba/seed0",
        "copy_memory-easy/gru/seed0",
        "copy_memory-easy/pseudo_mamba/seed0",
        "n_back-easy/gru-small-hidden_dim16/seed0",
        "n_back-easy/gru-small-hidden_dim32/seed0",
    ]
    assert ["--num_envs 8" in line for line in lines] == [False, False, True, False, True, False, False]
