"""``memsuite bench``: every subcommand measures, prints its table or JSON, and writes the JSON that readers expect."""

import io
import json
import subprocess
from pathlib import Path

import pytest
from bfloat16 import needs_bfloat16

from memsuite.__main__ import main
from memsuite.bench import STAGES, gpu, gpu_steps, ops, peers
from memsuite.bench.environments import BLOCKS, make_sized
from memsuite.bench.variants import arguments_of, variants
from memsuite.cli.bench import PARTS
from memsuite.errors import UsageError
from memsuite.launch import plain
from memsuite.launch.plain import console
from memsuite.tasks import TASKS, ScriptedTask

RESULTS = Path(__file__).parents[2] / "results"
PEER = """peer=echo '{"steps_per_cpu_second": 1000}'"""
# Every subcommand at its smallest size, with the published file of its results; test_threads.py covers the missing one.
SMALL = {
    "environments": ("environments", ["--tasks", "delayed_cue", "--repeats", "1"]),
    "training": ("bench", ["--controllers", "pseudo_mamba", "--horizons", "20", "--repeats", "1"]),
    "scaling": ("scaling", ["--controllers", "pseudo_mamba", "--horizons", "20", "--repeats", "1"]),
    "ops": ("ops", ["--repeats", "1"]),
    "peers": ("peers_200", ["--controllers", "pseudo_mamba", "--horizons", "20", "--repeats", "2", "--peer", PEER]),
}


def keys_of(report) -> set:
    """Return the keys of a report, or of the first row of a list."""
    return set(report[0] if isinstance(report, list) else report)


@pytest.mark.parametrize("part", SMALL)
def test_json_has_the_shape_of_the_published_file(part, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ops, "BLOCKS", ((4, 2),))
    published, options = SMALL[part]
    out = tmp_path / "out.json"
    assert main(["bench", part, *options, "--json", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report == json.loads(capsys.readouterr().out)
    expected = json.loads((RESULTS / f"{published}.json").read_text())
    assert set(report) == {"hardware", "versions", "commit", "command", part} <= set(expected)
    assert keys_of(report[part]) == keys_of(expected[part])
    if isinstance(report[part], dict) and "rows" in report[part]:
        assert keys_of(report[part]["rows"]) == keys_of(expected[part]["rows"])
    assert report["command"].startswith(f"memsuite bench {part} ")


@pytest.mark.parametrize("part", ["environments", "training", "scaling", "peers"])
def test_without_json_a_table_is_printed(part, capsys):
    assert main(["bench", part, *SMALL[part][1]]) == 0
    assert ("delayed_cue" if part == "environments" else "pseudo_mamba") in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in TASKS if issubclass(TASKS[name], ScriptedTask)])
def test_every_scripted_task_has_a_size_for_every_block(name):
    sizes = [make_sized(name, horizon)[1] for horizon, _ in BLOCKS]
    assert sizes.count("medium") >= len(BLOCKS) - 1


def test_environments_are_measured_from_short_to_long_episodes(tmp_path):
    main(["bench", "environments", *SMALL["environments"][1], "--out", str(tmp_path / "out.json")])
    rows = json.loads((tmp_path / "out.json").read_text())["environments"]
    assert {(row["horizon"], row["num_envs"]) for row in rows} >= {(200, 64), (200, 1024), (20000, 10)}


def test_the_sections_of_an_iteration_add_up(tmp_path):
    main(["bench", "training", *SMALL["training"][1], "--out", str(tmp_path / "out.json")])
    (row,) = json.loads((tmp_path / "out.json").read_text())["training"]
    assert row["steps_per_cpu_second"] > 0
    assert sum(row["share"].values()) == pytest.approx(1, abs=0.05)


def test_a_peer_is_measured_in_turn(tmp_path):
    main(["bench", "peers", *SMALL["peers"][1], "--out", str(tmp_path / "out.json")])
    report = json.loads((tmp_path / "out.json").read_text())["peers"]
    assert report["rounds"]["peer"] == [1000, 1000]
    (name,) = report["ratio"]
    assert name == "pseudo_mamba, H = 20"
    assert report["ratio"][name]["peer"] == pytest.approx(report["median"][name] / 1000)


@pytest.mark.parametrize(
    ("command", "said"),
    [("echo loading", "its last line is 'loading'"), ("true", "it printed nothing"), ("ls nowhere", "No such file")],
)
def test_a_peer_that_prints_no_figure_is_told_by_what_it_printed(command, said):
    given = peers.parse_peers([f"peer={command}"])["peer"]
    with pytest.raises(UsageError, match=said):
        peers._run("peer", given)


def test_a_peer_is_a_command():
    with pytest.raises(UsageError, match="NAME=COMMAND"):
        peers.parse_peers(["peer=echo 'not closed"])


@pytest.mark.parametrize(
    "left_out", [("golden", "processes"), pytest.param((), marks=pytest.mark.slow)], ids=["brief", "whole"]
)
def test_what_the_gpu_measurement_does_runs_on_a_cpu_too(left_out, monkeypatch):
    """Without a GPU, the child process and the table are tested on a CPU instead."""
    steps = {"x": ["nonesuch", "4", "20"], "y": ["pseudo_mamba", "4", "20"]}
    (_, failed), (_, fine) = gpu.apart("training", "cpu", steps)
    assert failed["failed"].startswith("UsageError")
    assert fine["steps_per_second"] > 0
    monkeypatch.setattr(gpu, "CASES", {"gru_scan": None, "window_attention": None})
    kept = []
    given = {"device": "cpu", "num_envs": 64, "keep": lambda found: kept.append(json.dumps(found))}
    stages = [stage for stage in STAGES if stage not in left_out]
    report = gpu.measure(console(), ["gru"], stages, [20], **given)
    rows = {stage: row for stage in stages for row in report[stage].values()}
    assert all("failed" not in row and row.get("holds", True) for row in rows.values()), rows
    assert rows["ops"]["error"] == rows["controllers"]["error"] == 0.0
    assert rows["training"]["steps_per_second"] > 0
    assert rows["profile"]["lines"][0]["milliseconds"] > 0
    assert len(kept) == gpu.table(report).row_count == len(rows) + 1
    assert json.loads(kept[0]) == {"device": "cpu", "build": report["build"]}


def test_a_difference_from_the_host_fails(monkeypatch):
    values = iter((1.0, 1.01, 1.0))  # of the host, of the device, and in bf16
    monkeypatch.setattr(gpu_steps, "_read", lambda model, x, first: [x.new_full((), next(values))])
    row = gpu_steps.compare_controller("cpu", "gru")
    assert row["error"] == pytest.approx(0.01)
    assert not row["holds"]
    assert "not: gru" in gpu.table({"device": "x", "controllers": {"gru": row}}).caption


def test_a_step_that_ends_its_process_or_hangs_is_reported_and_the_next_is_run(monkeypatch):
    wrong = "import os, time, json, sys; [os._exit(3) if x == 'ends' else time.sleep(99) if x == 'hangs' else "
    wrong += "print('{}', flush=True) for x in json.loads(sys.argv[3])]"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **given: popen([command[0], "-c", wrong, *command[3:]], **given)
    )
    monkeypatch.setattr(gpu, "LIMIT", 3)
    names = ("one", "ends", "two", "hangs", "three")
    found = dict(gpu.apart("training", "cpu", {name: [] for name in names}))
    assert {name: row.get("failed") for name, row in found.items()} == {
        "one": None,
        "ends": "the process ended with status 3",
        "two": None,
        "hangs": "not finished after 3 s",
        "three": None,
    }


def test_a_step_after_one_that_has_spoilt_the_process_is_run_in_another(monkeypatch):
    """After an illegal access, a GPU refuses a process everything: what comes next would fail though it is right."""
    spoils = "import json, os, sys; [print(json.dumps({'process': os.getpid()} | ({'failed': 'AcceleratorError: CUDA'} "
    spoils += "if x == 'bad' else {'failed': 'OutOfMemoryError: CUDA'} if x == 'large' else {})), flush=True) "
    spoils += "for x in json.loads(sys.argv[3])]"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **given: popen([command[0], "-c", spoils, *command[3:]], **given)
    )
    found = dict(gpu.apart("training", "cpu", {name: [] for name in ("one", "large", "bad", "two")}))
    processes = {name: row["process"] for name, row in found.items()}
    assert list(found) == ["one", "large", "bad", "two"]
    assert processes["one"] == processes["large"] == processes["bad"] != processes["two"]


def test_help_lists_the_subcommands_and_each_has_its_own_options(capsys):
    assert main(["bench", "--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {part} " in listed for part in PARTS)
    for part, (_, defaults) in PARTS.items():
        with pytest.raises(SystemExit):
            main(["bench", part, "--help"])
        text = capsys.readouterr().out
        assert {
            option
            for option in (
                "tasks",
                "controllers",
                "stages",
                "horizons",
                "draws",
                "products",
                "recompute",
                "threads",
                "peer",
                "runs",
                "plot",
            )
            if f"--{option}" in text
        } == (set(defaults) - {"repeats"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s5:mlp_ratio", "'s5:mlp_ratio': 'mlp_ratio' is not ARGUMENT=VALUE, as in s5:mlp_ratio=0"),
        ("s5:=0", "'=0' is not ARGUMENT=VALUE"),
        ("gru,s5:", "'s5:': '' is not ARGUMENT=VALUE"),
        ("s5:depth=1:depth=2", "'depth=2' is there twice"),
        ("s5:mlp_ratio={", "'{' is not a value in YAML"),
        ("grru:depth", "no controller 'grru'"),
        ("gru,gru:depth=0", "depth is 0; the least is 1"),
        ("gru:deepth=2", "deepth"),
    ],
)
def test_a_controllers_arguments_are_checked_before_anything_is_measured(given: str, said: str) -> None:
    """One line names the mistake."""
    with pytest.raises(UsageError) as caught:
        variants(given)
    assert said in str(caught.value)


def test_a_controllers_arguments_are_numbers_where_they_look_like_it() -> None:
    """YAML alone takes 1e-3 for a text."""
    assert arguments_of("mamba:dt_min=1e-3:expand=1") == {
        "controller": "mamba",
        "controller_args": {"dt_min": 0.001, "expand": 1},
    }


@needs_bfloat16
def test_training_is_measured_in_both_precisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that is not of float32 names its precision, and so does the table."""
    given = [
        "--controllers",
        "linear_attention",
        "--horizons",
        "20",
        "--repeats",
        "1",
        "--products",
        "float32,bfloat16",
    ]
    main(["bench", "training", *given, "--out", str(tmp_path / "out.json")])
    assert "bfloat16" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text())["training"]
    assert [row.get("products") for row in rows] == [None, "bfloat16"]
    assert main(["bench", "training", "--products", "bf16"]) == 2
    assert "no --products 'bf16'; did you mean: bfloat16" in capsys.readouterr().err


def test_a_controllers_arguments_reach_it(tmp_path: Path) -> None:
    """A narrower model is smaller."""
    names = ["--controllers", "trace,trace:hidden_dim=32", "--horizons", "10", "--repeats", "1"]
    main(["bench", "training", *names, "--out", str(tmp_path / "out.json")])
    whole, narrow = json.loads((tmp_path / "out.json").read_text())["training"]
    assert narrow["parameters"] < whole["parameters"]


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "gru\nlstm\n"), (60.0, "")])
def test_a_log_says_from_time_to_time_what_is_measured(monkeypatch, seconds: float, told: str) -> None:
    """Where no screen shows a status, it is a line; a command that is over before has none."""
    monkeypatch.setattr(plain, "SECONDS_A_LINE", seconds)
    log = io.StringIO()
    with console(file=log).status("gru") as status:
        status.update("lstm")
    assert log.getvalue() == told
