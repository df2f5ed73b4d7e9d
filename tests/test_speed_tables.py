"""The figures of docs/speed.md and of the README are those of the committed measurements."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HORIZONS = (50, 200, 1000)


def results(name: str) -> dict:
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def training_rows() -> list[str]:
    """Return the lines of the table of training speeds."""
    speeds = {(row["controller"], row["horizon"]): row["steps_per_cpu_second"] for row in results("bench")["training"]}
    names = dict.fromkeys(controller for controller, _ in speeds)
    return [f"| {name} | " + " | ".join(f"{speeds[name, h]:,.0f}" for h in HORIZONS) + " |" for name in names]


def peer_rows() -> list[str]:
    """Return the lines of the table beside JAX."""
    found = results("peers")["peers"]
    rows = []
    for name, rounds in found["rounds"].items():
        numbers = [found["median"][name], min(rounds), max(rounds)]
        ratios = [f"{found['ratio'][name][peer]:.2f}" if name in found["ratio"] else "" for peer in found["commands"]]
        label = name.removesuffix(", H = 200")
        rows.append(f"| {label} | " + " | ".join([*(f"{x:,.0f}" for x in numbers), *ratios]) + " |")
    return rows


def op_rows() -> list[str]:
    """Return the lines of the table of ops."""
    rows = []
    for row in results("ops")["ops"]["rows"]:
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("reference_ratio", "library_ratio")]
        kept = [f"{row[key]:.1f}" if key in row else "" for key in ("op_kept_mb", "library_kept_mb")]
        share = f"{100 * row['share']:.0f}%" if "share" in row else ""
        size = f"{row['steps']} x {row['batch']}"
        rows.append(f"| {row['op']} | {size} | {row['op_ms']:.2f} | " + " | ".join([*ratios, *kept, share]) + " |")
    return rows


def thread_rows() -> list[str]:
    """Return the lines of the table of threads."""
    rows = []
    for row in results("threads")["threads"]["rows"]:
        speeds = [f"{row['median'][count]['steps_per_second']:,.0f}" for count in ("1", "2")]
        ends = min(row["ratio_by_round"]), max(row["ratio_by_round"])
        ratios = [f"{x:.2f}" for x in (row["ratio"], *ends, row["processes_ratio"])]
        rows.append("| " + " | ".join([row["controller"], str(row["horizon"]), *speeds, *ratios]) + " |")
        times = " ".join(f"{time:.0f}" for time in row["handover_ns_by_round"])
        rows.append(f"| {row['controller']} | {times} | {' '.join(f'{x:.2f}' for x in row['ratio_by_round'])} |")
    return rows


@pytest.mark.parametrize("rows", [training_rows, peer_rows, op_rows, thread_rows], ids=lambda rows: rows.__name__)
def test_the_guide_has_every_row(rows):
    lines = (ROOT / "docs" / "speed.md").read_text().splitlines()
    missing = [row for row in rows() if row not in lines]
    assert not missing


@pytest.mark.parametrize("name", ["bench", "peers", "ops", "scaling", "threads"])
def test_a_measurement_says_how_it_was_made(name):
    found = results(name)
    assert found["command"].startswith("memsuite bench")
    assert len(found["commit"]) == 40, "measured on files that differ from their commit"
    assert found["hardware"]["cpu"]


def test_the_readme_has_the_medians():
    median = results("peers")["peers"]["median"]
    names = ["jax_gru", "gru, H = 200", "jax_s5", "lru, H = 200", "pseudo_mamba, H = 200", "mamba, H = 200"]
    assert "| " + " | ".join(f"{median[name]:,.0f}" for name in names) + " |" in (ROOT / "README.md").read_text()


def scaling_rows() -> list[str]:
    """Return the lines of the table of horizons."""
    by_model: dict[str, dict[int, dict]] = {}
    for row in results("scaling")["scaling"]:
        by_model.setdefault(row["controller"], {})[row["horizon"]] = row
    lines = []
    for name, rows in by_model.items():
        times = [f"{rows[h]['microseconds']:.1f}" if h in rows else "-" for h in (200, 1000, 5000, 20000)]
        ratio = f"{rows[max(rows)]['microseconds'] / rows[200]['microseconds']:.2f}"
        sizes = [f"{rows[h]['kilobytes']:.1f}" if h in rows else "-" for h in (5000, 20000)]
        lines.append("| " + " | ".join([f"`{name}`", *times, ratio, *sizes]) + " |")
    return lines


def test_the_guide_of_controllers_has_every_horizon():
    lines = (ROOT / "docs" / "controllers.md").read_text().splitlines()
    missing = [row for row in scaling_rows() if row not in lines]
    assert not missing


def test_only_attention_costs_more_at_a_longer_horizon():
    rows = results("scaling")["scaling"]
    first = {row["controller"]: row["microseconds"] for row in rows if row["horizon"] == 200}
    dear = {row["controller"] for row in rows if row["microseconds"] > 1.2 * first[row["controller"]]}
    assert dear == {"transformer"}
