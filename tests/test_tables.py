"""The tables of the docs: making them again changes nothing, and a table of an unfinished suite names its gaps."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tables
from render import ceilings, second_recipe, short_cells

from memsuite.runs.collection import write_collection

ROOT = Path(__file__).parents[1]
ASKED = len(second_recipe.asked_for())  # half of them by PPO, half supervised


def test_making_them_again_changes_nothing():
    line = [sys.executable, "docs/tables.py", "--check"]
    out = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (out.stdout, out.returncode) == ("", 0), out.stderr


def test_every_table_that_can_be_made_stands_on_one_page():
    placed = [name for path in tables.PAGES for name in re.findall(r"^<!-- table: (.*) -->$", path.read_text(), re.M)]
    assert sorted(placed) == sorted(tables.TABLES)


def test_only_what_stands_between_markers_is_written(monkeypatch):
    monkeypatch.setitem(tables.TABLES, "toy", lambda: "new")
    page = "a\n<!-- table: toy -->\nold\n\nolder\n<!-- end -->\nb\n<!-- table: toy -->\n<!-- end -->\n"
    new = "<!-- table: toy -->\nnew\n<!-- end -->\n"
    assert tables.rendered(page, "x") == f"a\n{new}b\n{new}"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- table: toyy -->\n<!-- end -->", "x.md: <!-- table: toyy -->: nothing makes"),
        ("<!-- table: golden -->\n| a |\n", "x.md: <!-- table: golden -->: <!-- end --> is missing"),
        ("<!-- table: golden -->\n<!-- table: golden -->\n<!-- end -->", "<!-- end --> is missing"),
    ],
)
def test_a_mistake_in_the_markers_is_named(page, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tables.rendered(page, "x.md")


def made(seed, success=0.5, objective="ppo", controller="gru", **more):
    """Return a run in the format of the second reference."""
    run = {"task": "n_back", "difficulty": "easy", "controller": controller, "seed": seed, "objective": objective}
    run |= {"success": success, "reached_target": success > 0.85, "steps_to_target": 1000 + seed, "cpu_seconds": 7.0}
    run |= {"target_success": 0.85, "chance": 0.125, "config": {"steps": 100_000_000}}
    return {**run, "memory_moved": {"recurrent": 0.25}, **more}


def test_without_a_file_everything_is_counted_as_missing(tmp_path):
    text = second_recipe.section(tmp_path / "none.jsonl")
    assert text.startswith(f"0 of the {ASKED:,} runs")
    assert f"{ASKED // 2:,} by PPO and {ASKED // 2:,} supervised are missing" in text
    assert "|" not in text


def test_what_is_there_of_a_suite_is_laid_out(tmp_path):
    whole = [made(seed, 0.9) for seed in range(5)] + [made(seed, 1.0, "supervised") for seed in range(5)]
    part = [made(3, controller="lru", memory_moved=None), made(0, 1.0, "supervised", "transformer")]
    write_collection(tmp_path / "r.jsonl", [*part, *whole])
    count, heading, table = second_recipe.section(tmp_path / "r.jsonl").split("\n\n")
    assert count.startswith(f"12 of the {ASKED:,} runs")
    assert f"{ASKED // 2 - 6:,} by PPO and {ASKED // 2 - 6:,} supervised are missing" in count
    assert heading == "### n_back, easy: 100,000,000 steps, target 0.85, chance 0.125"
    assert table.splitlines()[2:] == [
        "| `gru` | **0.900** | **0.900** | **0.900** | **0.900** | **0.900** | 1.000 | 1,002 | 7 | 0.25 |",
        "| `lru` |  |  |  | 0.500 |  |  | 0 of 1 | 7 |  |",
        "| `transformer` |  |  |  |  |  | 1.000 (1) |  |  |  |",
    ]


def test_the_easy_tier_is_counted_in_words(tmp_path):
    runs = [made(0, 0.9), made(1, 0.8), made(0, 0.99, "supervised")]
    runs += [made(0, 0.96, controller="lru"), made(0, 1.0, "supervised", "lru"), made(0, 0.5, "supervised", "mlstm")]
    write_collection(tmp_path / "r.jsonl", runs)
    assert second_recipe.in_words(tmp_path / "r.jsonl") == (
        "Of 2 cells of the easy tier that were run (1 with 1 seed, 1 with 2 seeds), 1 reach their target on every seed."
        " Of the 2 cells whose ceiling was trained and reaches the target, PPO comes to 0.95 of it in 1."
    )


def test_cells_that_fall_short_are_listed_with_what_holds_them_back(tmp_path):
    rising = {"env_steps": [25, 50, 75, 100], "success": [0.2, 0.3, 0.4, 0.5], "return": [None] * 4}
    flat = {"env_steps": [30, 60, 100], "success": [0.4, 0.49, 0.5], "return": [None] * 3}
    runs = [
        *(made(seed, curve=rising, env_steps=100) for seed in (0, 1)),
        made(0, 0.99, "supervised"),
        made(0, controller="lru", curve=flat, env_steps=100),
        made(0, 0.51, "supervised", "lru"),
        made(0, controller="lstm"),
        made(0, 0.9, controller="mingru"),
        made(0, 0.9, "supervised", "mlstm"),
    ]
    write_collection(tmp_path / "r.jsonl", runs)
    assert short_cells.section(tmp_path / "r.jsonl").splitlines()[2:] == [
        "| n_back | `gru` | 0.500 | 0.85 | 0.990 | 0.20 | 0.30 | 0.40 | 0.50 | below the ceiling, still rising |",
        "| n_back | `lstm` | 0.500 | 0.85 |  |  |  |  |  |  |",
        "| n_back | `lru` | 0.500 | 0.85 | 0.510 |  | 0.40 | 0.49 | 0.50 |"
        " the ceiling is below the target, at the ceiling, flat |",
    ]
    assert short_cells.section(tmp_path / "none.jsonl") == "No cell that was run falls short of its target."


def test_ceilings_below_the_target_say_what_would_reach_it(tmp_path):
    models = ["gru", "lstm", "pseudo_mamba", "mingru", "lru", "mamba", "mlstm", "mamba2"]
    write_collection(
        tmp_path / "reference.jsonl", [made(0, objective="supervised", controller=name) for name in models]
    )
    rising = {"env_steps": [750, 1000], "success": [0.4, 0.5], "return": [None] * 2}
    flat = {**rising, "success": [0.49, 0.5]}

    def deep(controller, success):
        return made(0, success, "supervised", controller, config={"steps": 100_000_000})

    def long(controller, success, curve=flat, decay=0.0):
        config = {"steps": 10**9, "ppo": {"matrix_decay": decay}}
        return made(0, success, "supervised", controller, config=config, curve=curve, env_steps=1000)

    tried = [
        deep("gru", 1.0),
        long("gru", 0.5),
        deep("lstm", 0.5),
        long("lstm", 0.9),
        deep("mingru", 0.5),
        long("mingru", 0.5),
    ]
    tried += [
        deep("pseudo_mamba", 1.0),
        long("pseudo_mamba", 1.0),
        deep("lru", 0.25),
        long("lru", 0.5, rising),
        deep("mamba", 1.0),
        deep("mlstm", 0.5),
        long("mlstm", 0.2),
        deep("mamba2", 0.5),
        long("mamba2", 0.2),
        long("mamba2", 0.5, decay=0.3),
    ]
    write_collection(tmp_path / "tried.jsonl", tried)
    assert ceilings.section(tmp_path / "tried.jsonl", tmp_path / "reference.jsonl").splitlines()[2:] == [
        "| n_back | `gru` | 0.85 | 0.500 | **1.000** | 0.500 |  | depth |",
        "| n_back | `lstm` | 0.85 | 0.500 | 0.500 | **0.900** | 1,000 | time |",
        "| n_back | `pseudo_mamba` | 0.85 | 0.500 | **1.000** | **1.000** | 1,000 | time or depth |",
        "| n_back | `mingru` | 0.85 | 0.500 | 0.500 | 0.500 |  | the model |",
        "| n_back | `lru` | 0.85 | 0.500 | 0.250 | 0.500 |  | perhaps time: still rising |",
        "| n_back | `mamba` | 0.85 | 0.500 | **1.000** |  |  |  |",
        "| n_back | `mamba2` | 0.85 | 0.500 | 0.500 | 0.200; with matrix decay 0.500 |  | the model |",
        "| n_back | `mlstm` | 0.85 | 0.500 | 0.500 | 0.200 |  | not known: longer training loses what it had learnt |",
    ]
    assert ceilings.section(tmp_path / "none.jsonl", tmp_path / "none.jsonl").startswith("No ceiling")


def test_a_whole_suite_is_said_to_be_whole(tmp_path):
    runs = [
        made(seed, objective=objective, controller=controller, task=task, difficulty=tier)
        for tier, task, controller, objective, seed in second_recipe.asked_for()
    ]
    write_collection(tmp_path / "r.jsonl", runs)
    text = second_recipe.section(tmp_path / "r.jsonl")
    assert text.startswith(f"All {ASKED:,} runs")
    assert text.count("### ") == len({key[:2] for key in second_recipe.asked_for()})


def test_the_time_to_the_target_has_the_cells_that_both_recipes_solve(tmp_path):
    def run(model, draws, seed, seconds):
        reached = {"reached_target": seconds is not None, "cpu_seconds_to_target": seconds}
        return {"task": "n_back", "controller": model, "seed": seed, "config": {"ppo": {"draws": draws}}, **reached}

    runs = [run("gru", 1, 0, 10.0), run("gru", 1, 1, 30.0), run("gru", 32, 0, 2.0)]
    runs += [run("lru", 1, 0, None), run("lru", 32, 0, 2.0), run("mamba", 32, 0, 2.0)]
    write_collection(tmp_path / "r.jsonl", runs)
    text = second_recipe.to_target(tmp_path / "r.jsonl")
    assert "| n_back | `gru` | 20.0 | 2.0 | 10.0 | 1 |" in text
    assert "median ratio over these 1 cells is 10.0" in text
    assert "| `lru` |" not in text
    left_out = "Left out, because not every run reaches the target: n_back, `lru` "
    assert text.endswith(left_out + "(0 of 1 seeds by the first recipe, 1 of 1 by today's).")
    assert "mamba" not in text
    assert second_recipe.to_target(tmp_path / "none.jsonl") == "No cell has been run by both recipes yet."
