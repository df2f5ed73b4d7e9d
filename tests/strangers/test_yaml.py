"""A few lines of YAML that stand for more values than a machine can hold are refused wherever YAML is read."""

import time

import pytest
import yaml

from memsuite import reading
from memsuite.__main__ import main
from memsuite.cli.suite import key_values
from memsuite.errors import UsageError
from memsuite.reading import UniqueKeys

TEXT = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
for above, name in zip("abcdefgh", "bcdefghi", strict=True):
    TEXT += f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]\n"
BOMB = "{" + ", ".join(TEXT.strip().splitlines()) + "}"


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        began = time.process_time()
        assert main(list(words)) == 2
        assert time.process_time() - began < 10
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1, said
        return said

    return call


@pytest.mark.parametrize("above", ["controller_args", "task_args", "trainer"])
def test_a_configuration(refused, tmp_path, above):
    (tmp_path / "c.yaml").write_text(f"{above}:\n  " + TEXT.replace("\n", "\n  "))
    assert "aliases stand for more than 100,000 values" in refused("fit", "--config", "c.yaml", "--out", "x")


@pytest.mark.parametrize("option", ["--controller_args", "--task_args", "--controller_args.hidden_dim"])
def test_an_option(refused, option):
    refused("fit", option, BOMB, "--out", "x")


def test_a_suite_and_its_launchers(refused, tmp_path):
    (tmp_path / "s.yaml").write_text("settings:\n  task_args:\n    " + TEXT.replace("\n", "\n    "))
    assert "aliases stand for more than" in refused("suite", "s.yaml", "--dry_run")
    with pytest.raises(UsageError, match="not a value in YAML"):
        key_values("ray", [f"resources={BOMB}"])


def test_merged_mappings(refused, tmp_path):
    lines = ["a: &a {k0: 1, k1: 1, k2: 1, k3: 1}"]
    for above, name in zip("abcdefghijk", "bcdefghijkl", strict=True):
        lines.append(f"{name}: &{name} {{<<: [{', '.join([f'*{above}'] * 8)}]}}")
    (tmp_path / "c.yaml").write_text("task_args:\n  " + "\n  ".join(lines) + "\n")
    assert "aliases stand for more than" in refused("fit", "--config", "c.yaml", "--out", "x")


def test_what_people_write_is_read(monkeypatch):
    assert yaml.load("a: &a [1, 2]\nb: *a\nc: {<<: {d: *a}}\n", UniqueKeys)["c"] == {"d": [1, 2]}
    monkeypatch.setattr(reading, "MOST_ALIASED", 10)
    assert yaml.load(f"a: {[1] * 100}", UniqueKeys) == {"a": [1] * 100}  # many values, each of them written
