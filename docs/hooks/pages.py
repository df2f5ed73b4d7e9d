"""The pages of the site that are not in ``docs/``, as a hook of MkDocs: README, guides, notebooks, and the API.

The README is the first page. A notebook is shown as ``make notebooks`` has run it, if it has. The pages of the API name
the modules of a room, whose docstrings mkdocstrings lays out; a new module is on its page without a word here.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "memsuite"
NOTEBOOKS = ROOT / "notebooks"
MOVED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
TOP = {"make_task": "tasks.registry", "get_task_config": "tasks.registry", "get_benchmark_suite": "tasks.registry"}
TOP |= {"make_controller": "controllers", "wrap": "controllers.wrapped"}
NAMES = [
    f'<autoref identifier="memsuite.{home}.{name}" optional><code>{name}</code></autoref>' for name, home in TOP.items()
]
AT_TOP = f"What `import memsuite` has: `load`, described here, and {', '.join(NAMES)}."
FOLDERS = {"notebooks": "notebooks/index.md", "docs": "overview.md"}
# The pages of the API: what each is about, and its modules; a folder stands for all of its modules.
API = {
    "memsuite": (AT_TOP, ["loading.py", "errors.py"]),
    "tasks": ("The tasks, their presets and anchors, and Gymnasium both ways.", ["tasks"]),
    "controllers": ("The sequence models, one layer a module, and what they share.", ["controllers"]),
    "rl": ("The parts of PPO: rollouts, advantages, the loss, evaluation.", ["rl"]),
    "ops": ("The recurrences over time and the fused small operations.", ["ops/scans", "ops/fused"]),
    "runs": (
        "What a run is: its settings and its record.",
        ["runs/config.py", "runs/ppo.py", "runs/result.py", "runs/collection.py"],
    ),
    "module": ("The Lightning module: one iteration of PPO for each training step.", ["module.py"]),
    "callbacks": ("Callbacks of the Trainer.", ["callbacks"]),
    "analysis": (
        "Reading runs: results, comparisons, retention, probes.",
        ["analysis", "analysis/probes", "metrics.py"],
    ),
}
OF_A_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")  # colours and the like in what a command has printed
OF_THE_ROOM = {"controllers": "make_controller, controller_class"}  # what is defined in a room's __init__
LINK = re.compile(r"\]\((?!https?:|#|data:)([^)#\s]+)(#[\w-]+)?\)")


@event_priority(100)  # before the notebooks are looked for
def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in ``docs/``."""
    for name, page in MOVED.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    shown = sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in shown:
        executed = NOTEBOOKS / "executed" / path.name
        text, pictures = _markdown_of(executed if executed.is_file() else path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    files.append(File.generated(config, "notebooks/index.md", content=_index_of_notebooks(shown)))
    files.append(File.generated(config, "api/index.md", content=_index_of_api()))
    for name, (text, parts) in API.items():
        files.append(File.generated(config, f"api/{name}.md", content=_page_of_api(name, text, parts)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point the links of the repository's files at their pages of the site."""
    here = page.file.src_uri
    origin = {"notebooks": "notebooks", "": "" if here in MOVED.values() else "docs"}.get(posixpath.dirname(here))
    if origin is None:
        return markdown

    def moved(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(origin, found[1]))
        return f"]({posixpath.relpath(_on_the_site(path), posixpath.dirname(here) or '.')}{found[2] or ''})"

    return LINK.sub(moved, markdown)


def _on_the_site(path: str) -> str:
    """Return where a file of the repository is on the site."""
    if path in MOVED or path in FOLDERS:
        return {**MOVED, **FOLDERS}[path]
    notebook = path.startswith("notebooks/") and path.endswith(".ipynb")
    return f"{path.removesuffix('.ipynb')}.md" if notebook else path.removeprefix("docs/")


def _markdown_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page, and its pictures by the names that the page has for them."""
    exporter = MarkdownExporter()
    text, resources = exporter.from_filename(
        str(path), resources={"unique_key": path.stem, "output_files_dir": path.stem}
    )
    return OF_A_TERMINAL.sub("", text), dict(resources["outputs"])


def _index_of_notebooks(paths: list[Path]) -> str:
    lines = [f"- [{path.stem[3:].replace('_', ' ').capitalize()}]({path.stem}.md)" for path in paths]
    about = "Short examples of the analysis. In a clone, `make notebooks` runs them and `make jupyter` opens them."
    return "\n".join(["# Notebooks", "", about, "", *lines, ""])


def _index_of_api() -> str:
    rows = [
        f"| [`{'memsuite' if name == 'memsuite' else f'memsuite.{name}'}`]({name}.md) | {text} |"
        for name, (text, _) in API.items()
    ]
    about = "What a page lists is made from the docstrings. The command line is described by `memsuite VERB --help`."
    return "\n".join(["# Python", "", about, "", "| module | content |", "|---|---|", *rows, ""])


def _page_of_api(name: str, text: str, parts: list[str]) -> str:
    lines = [f"# {'memsuite' if name == 'memsuite' else f'memsuite.{name}'}", "", text, ""]
    if members := OF_THE_ROOM.get(name):
        options = f"{{heading_level: 3, members: [{members}], show_submodules: false}}"
        lines += [f"## memsuite.{name}", "", f"::: memsuite.{name}", f"    options: {options}", ""]
    for part in parts:
        path = PACKAGE / part
        for file in [path] if path.suffix else sorted(path.glob("*.py")):
            if file.stem != "__init__":
                module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                lines += [f"## {module}", "", f"::: {module}", "    options: {heading_level: 3}", ""]
    return "\n".join(lines)
