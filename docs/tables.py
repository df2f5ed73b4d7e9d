"""Writes the tables of the docs that are made from results: ``make docs``, or ``python docs/tables.py``.

Such a table stands in its page between two comments, ``<!-- table: NAME -->`` and ``<!-- end -->``; :data:`TABLES` says
what makes it. All else in a page is written by hand. With ``--check`` nothing is written, and the exit status is 1 if a
page would change.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from render import ceilings, costs, gymnasium, leaderboard, measurements, runs, second_recipe, short_cells

from memsuite.files import write_atomically

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES: dict[str, Callable[[], str]] = {
    "leaderboard": leaderboard.section,
    "reference_easy": functools.partial(runs.reference, "easy"),
    "reference_medium": functools.partial(runs.reference, "medium"),
    "second_recipe": second_recipe.section,
    "short_cells": short_cells.section,
    "ceilings": ceilings.section,
    "second_recipe_in_brief": second_recipe.in_brief,
    "to_target": second_recipe.to_target,
    "second_set": second_recipe.second_set,
    "longest": second_recipe.longest,
    "t_maze": functools.partial(second_recipe.longest, ROOT / "results" / "t_maze_v2.jsonl"),
    "second_recipe_in_words": second_recipe.in_words,
    "parts_copy_memory": functools.partial(runs.second_recipe, "copy_memory"),
    "parts_delayed_cue": functools.partial(runs.second_recipe, "delayed_cue"),
    "parts_distractor_nav": functools.partial(runs.second_recipe, "distractor_nav"),
    "parts_n_back": functools.partial(runs.second_recipe, "n_back"),
    "parts_permuted_copy": functools.partial(runs.second_recipe, "permuted_copy"),
    "draws": measurements.draws,
    "recipe_copy_memory": functools.partial(runs.recipe, "copy_memory"),
    "recipe_delayed_cue": functools.partial(runs.recipe, "delayed_cue"),
    "golden": runs.golden,
    "horizons": runs.cost_of_a_wait,
    "samples": runs.samples,
    "controls": runs.controls,
    "controls_second": functools.partial(runs.controls, "controls_second"),
    "controls_window": functools.partial(runs.controls, "controls_window"),
    "training": measurements.training,
    "peers_200": functools.partial(measurements.peers, 200),
    "peers_1000": functools.partial(measurements.peers, 1000),
    "peers_recurrent_ppo": measurements.peers_recurrent_ppo,
    "beside_sb3": gymnasium.beside_sb3,
    "pendulum_beside_sb3": functools.partial(gymnasium.beside_sb3, "pendulum_v1", "peers_pendulum"),
    "popgym": gymnasium.popgym,
    "peers_learning": costs.learning,
    "easy_tier": costs.easy_tier,
    "products": costs.products,
    "products_learning": costs.products_learning,
    "long": measurements.long_rollouts,
    "ops": measurements.ops,
    "threads": measurements.threads,
    "hand_over": measurements.hand_over,
    "scaling": measurements.scaling,
    "other_libraries": measurements.other_libraries,
    "held_before_training": measurements.held_before_training,
    "learnt_at_200": measurements.learnt_at_200,
    "zoo": measurements.zoo,
    "left_far_beyond": measurements.left_far_beyond,
    "contamination": measurements.contamination,
    "records": measurements.records,
    "map": measurements.solved_cells,
}
BEGIN, END = "<!-- table: {} -->", "<!-- end -->"
MARKED = re.compile(rf"^{BEGIN.format('(.*?)')}$(.*?)(?=^{END}$|^<!-- table|\Z)({END})?", re.DOTALL | re.MULTILINE)


def rendered(text: str, page: str) -> str:
    """Return a page with its tables as the results are now.

    Args:
        text: the page.
        page: its name, for the message.

    Raises:
        ValueError: a table that nothing makes, or one without its end.
    """

    def replacement(found: re.Match[str]) -> str:
        name = found[1]
        if name not in TABLES or not found[3]:
            reason = "nothing makes a table of that name" if found[3] else f"{END} is missing after it"
            raise ValueError(f"{page}: {found[0].splitlines()[0]}: {reason}")
        return f"{BEGIN.format(name)}\n{TABLES[name]()}\n{END}"

    return MARKED.sub(replacement, text)


def main(arguments: list[str]) -> int:
    """Write all pages, or check them; say which change."""
    changed = {}
    for path in PAGES:
        text = path.read_text()
        if (new := rendered(text, path.name)) != text:
            changed[path] = new
    for path, new in changed.items():
        print(f"{path.relative_to(ROOT)} {'is not what the results say: run make docs' if arguments else 'changed'}")
        if arguments != ["--check"]:
            write_atomically(path, lambda file, new=new: file.write(new.encode()))  # type: ignore[misc]
    return int(bool(changed) and arguments == ["--check"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
