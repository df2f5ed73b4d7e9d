"""The site: every page of the docs is in it, links lead somewhere, and it needs nothing from elsewhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FROM_ELSEWHERE = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="https?://[^"]+"')


def pages(entries) -> list[str]:
    """Return the pages of a part of the navigation."""
    found = []
    for entry in entries:
        content = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += pages(content) if isinstance(content, list) else [content]
    return found


def test_every_page_of_the_docs_and_every_notebook_is_in_the_navigation():
    inside = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= inside
    assert {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")} <= inside


@pytest.mark.slow
def test_it_builds_without_a_warning_and_needs_nothing_from_elsewhere(tmp_path):
    """With the notebooks as they are committed, without their outputs."""
    pytest.importorskip("mkdocs", reason="needs memsuite-rl[docs]")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""})
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    for name in ("index", "contributing", "leaderboard", "api/tasks", "notebooks/03_compare_controllers"):
        assert (site / f"{name}.html").is_file()
    assert not [found for path in site.rglob("*.html") for found in FROM_ELSEWHERE.findall(path.read_text())]
    index = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    assert any("retention" in entry["text"] for entry in index)
    api = (site / "api" / "tasks.html").read_text()
    assert ":class:" not in api
    assert 'id="memsuite.tasks.base.Task' in api


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails(tmp_path):
    pytest.importorskip("mkdocs", reason="needs memsuite-rl[docs]")
    ignore = shutil.ignore_patterns(".*", "runs", "site", "csrc", "results")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=ignore)
    page = tmp_path / "copy" / "docs" / "state.md"
    page.write_text(page.read_text() + "\nSee [this](nowhere.md).\n")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(line, cwd=tmp_path / "copy", capture_output=True, text=True)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
