"""Tables of what was measured of models and ops: speed, cost at a horizon, what is held before and after training."""

from __future__ import annotations

import statistics
from typing import Any

from memsuite.analysis.retention import group_reports
from memsuite.controllers import CONTROLLERS
from memsuite.runs.config import DIFFICULTIES
from memsuite.tasks import SUITE
from render.common import Run, content_of, each, grouped, runs_of, table

TRAINED_AT, AGAINST = (50, 200), "gated_deltanet"  # horizons of the table of training speeds; the last column's model
SCALED_TO = (200, 1000, 5000, 20000)
FAR = (1000, 10_000, 100_000, 1_000_000)
# Our models, and the peers that are compared with each (tests/peers).
PEERS_OF = {
    "gru": ["gru"],
    "lru": ["s5"],
    "s5:mlp_ratio=0": ["s5"],
    "s5": ["s5"],
    "mamba": ["mamba", "memax_s6"],
    "gated_deltanet": ["gated_deltanet", "memax_gdn_64", "memax_gdn"],
    "linear_attention": ["linear_attention", "memax_fart_64", "memax_fart"],
    "transformer": ["transformer"],
}
CUES = 8  # of the task in results/beyond.json


def training() -> str:
    """Lay out training speeds: steps per CPU-second of every model, on two processors."""
    columns = []
    for name, horizons in (("bench", TRAINED_AT), ("bench_wide", TRAINED_AT[-1:])):
        rates = {
            (row["controller"], row["horizon"]): row["steps_per_cpu_second"] for row in content_of(name)["training"]
        }
        columns += [{model: f"{rate:,.0f}" for (model, at), rate in rates.items() if at == one} for one in horizons]
        last = {model: rate for (model, at), rate in rates.items() if at == TRAINED_AT[-1]}
        columns.append({model: f"{rate / last[AGAINST]:.2f}" for model, rate in last.items()})
    at = [f"H = {horizon}" for horizon in TRAINED_AT]
    headings = ["controller", *at, f"over {AGAINST}", f"wide vectors: {at[-1]}", f"over {AGAINST}"]
    return table(headings, [[model, *(column[model] for column in columns)] for model in columns[0]])


def peers(horizon: int) -> str:
    """Lay out training beside JAX at a horizon: each of our models beside those of its kind."""
    found = content_of(f"peers_{horizon}")["peers"]
    rounds, median = found["rounds"], found["median"]
    rows = []
    for ours, theirs in PEERS_OF.items():
        for peer in theirs:
            name, other = f"{ours}, H = {horizon}", f"jax_{peer}, H = {horizon}"
            if name not in median or other not in median:
                continue
            without = found["others"][other]["update_steps_per_cpu_second"]
            sizes = [f"{found['others'][side]['parameters']:,.0f}" for side in (name, other)]
            rates = [
                f"{median[side]:,.0f} ({min(rounds[side]):,.0f} to {max(rounds[side]):,.0f})" for side in (name, other)
            ]
            ratios = [f"{median[name] / median[other]:.2f}", f"{median[name] / without:.2f}"]
            rows.append([ours, *rates[:1], peer, *rates[1:], *ratios, *sizes])
    headings = [
        "ours",
        "steps / CPU-s",
        "in JAX",
        "steps / CPU-s",
        "ratio",
        "their rollouts free",
        "parameters",
        "theirs",
    ]
    return table(headings, rows)


def peers_recurrent_ppo() -> str:
    """Lay out training beside the recurrent PPO of other libraries, task by task: rates, ratios and returns."""
    rows = []
    for task, of_task in grouped(content_of("peers_recurrent_ppo")["runs"], lambda run: run["task"]).items():
        by_peer = grouped(of_task, lambda run: run["peer"])
        rates = {peer: statistics.median(run["steps_per_cpu_second"] for run in runs) for peer, runs in by_peer.items()}
        for peer, runs in by_peer.items():
            about = [task.replace("_", " "), peer, runs[0]["version"], f"{runs[0]['parameters']:,}"]
            speeds = [f"{rates[peer]:,.0f}", f"{rates['memsuite'] / rates[peer]:.2f}"]
            rows.append([*about, *speeds, each((run["return_mean"] for run in runs), ".3g")])
    return table(["", "", "version", "parameters", "steps / CPU-s, median", "ours / theirs", "return, by seed"], rows)


def long_rollouts() -> str:
    """Lay out the cost of rollouts whose intermediate values are computed again."""
    rows = [
        [f"`{row['controller']}`", f"{row['horizon']:,}", f"{row['microseconds']:.1f}", f"{row['peak_megabytes']:,.0f}"]
        for row in content_of("long")["scaling"]
    ]
    return table(["controller", "steps", "us / step", "peak MB of the process"], rows)


def ops() -> str:
    """Lay out every op beside its reference and a library's."""
    rows = []
    for row in content_of("ops")["ops"]["rows"]:
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("reference_ratio", "library_ratio")]
        kept = [f"{row[key]:.1f}" if key in row else "" for key in ("op_kept_mb", "library_kept_mb")]
        share = f"{100 * row['share']:.0f}%" if "share" in row else ""
        rows.append([row["op"], f"{row['steps']} x {row['batch']}", f"{row['op_ms']:.2f}", *ratios, *kept, share])
    sizes = ["op", "steps x environments", "ms", "reference / op", "library / op"]
    return table([*sizes, "kept MB", "library's", "share"], rows)


def threads() -> str:
    """Lay out the speed of two threads beside one, and beside two processes."""
    rows = []
    for row in content_of("threads")["threads"]["rows"]:
        speeds = [f"{row['median'][count]['steps_per_second']:,.0f}" for count in ("1", "2")]
        ends = min(row["ratio_by_round"]), max(row["ratio_by_round"])
        ratios = [f"{ratio:.2f}" for ratio in (row["ratio"], *ends, row["processes_ratio"])]
        rows.append([row["controller"], str(row["horizon"]), *speeds, *ratios])
    return table(["controller", "horizon", "1 thread", "2 threads", "ratio", "lowest", "highest", "2 processes"], rows)


def hand_over() -> str:
    """Lay out how long threads took to hand over a cache line, and how fast two were, round by round."""
    rows = [
        [row["controller"], each(row["handover_ns_by_round"], ".0f"), each(row["ratio_by_round"], ".2f")]
        for row in content_of("threads")["threads"]["rows"]
    ]
    return table(["controller", "hand-over", "ratio"], rows)


def scaling() -> str:
    """Lay out the time and the memory of a step at each horizon."""
    by_model: dict[str, dict[int, Run]] = {}
    for row in content_of("scaling")["scaling"]:
        by_model.setdefault(row["controller"], {})[row["horizon"]] = row
    rows = []
    for name, at in by_model.items():
        times = [f"{at[horizon]['microseconds']:.1f}" if horizon in at else "-" for horizon in SCALED_TO]
        ratio = f"{at[max(at)]['microseconds'] / at[SCALED_TO[0]]['microseconds']:.2f}"
        sizes = [f"{at[horizon]['kilobytes']:.1f}" if horizon in at else "-" for horizon in SCALED_TO[2:]]
        rows.append([f"`{name}`", *times, ratio, *sizes])
    times = [f"us, H = {horizon:,}" for horizon in SCALED_TO]
    return table(["controller", *times, "last / first", *(f"kB, H = {horizon:,}" for horizon in SCALED_TO[2:])], rows)


def other_libraries() -> str:
    """Lay out which laws the models of other libraries break, and where."""
    rows = []
    for model in content_of("other_models"):
        broken = {law: found for law, found in model["laws"].items() if not found["holds"]}
        words = [f"{law}: {found['where']}" for law, found in broken.items()]
        name = model["name"].removeprefix("other_models.")
        rows.append([f"`{name}`", str(len(broken) or "none"), "<br>".join(words)])
    return table(["model", "laws broken", "where"], rows)


def held_before_training() -> str:
    """Lay out what every controller holds before training."""
    models: Any = content_of("retention")
    rows = [[f"`{one['name']}`", *(f"{kept:.2f}" for kept in one["retention"].values())] for one in models]
    return table(["controller", *(f"H = {int(horizon):,}" for horizon in models[0]["retention"])], rows)


def learnt_at_200() -> str:
    """Lay out what every controller reaches at 200 steps, and after how many steps."""
    reports = content_of("beyond")["reports"]
    rows = []
    for name in sorted({report["controller"] for report in reports}, key=list(CONTROLLERS).index):
        runs = [one["training"] for one in reports if one["controller"] == name and not special(one)]
        sizes = [f"{runs[0][size]:,}" for size in ("parameters", "state_floats")]
        steps = each((run["steps_to_target"] / 1000 for run in runs), ".0f")
        rows.append([f"`{name}`", *sizes, each(run["success"] for run in runs), steps])
    return table(["controller", "parameters", "state floats", "success", "thousands of steps to 0.90"], rows)


def zoo() -> str:
    """Lay out what every controller reaches in 512,000 steps of the golden task, by seed."""
    runs = runs_of("zoo_v1")
    rows = []
    for name in CONTROLLERS:
        its = sorted((run for run in runs if run["controller"] == name), key=lambda run: run["seed"])
        if its:
            sizes = [f"{its[0][size]:,}" for size in ("parameters", "state_floats")]
            seconds = f"{statistics.median(run['cpu_seconds'] for run in its):.0f}"
            rows.append([f"`{name}`", *sizes, each(run["success"] for run in its), seconds])
    missing = [f"`{name}`" for name in CONTROLLERS if f"`{name}`" not in {row[0] for row in rows}]
    said = f"\n\nNot run yet: {', '.join(missing)}." if missing else ""
    return table(["controller", "parameters", "state floats", "success, seeds 0 to 2", "CPU s"], rows) + said


def special(report: Run) -> bool:
    """Tell whether a report is of a run with a curriculum or with arguments of its own."""
    return bool(report["curriculum"] or report["controller_args"])


def left_far_beyond() -> str:
    """Lay out what is left far beyond training: success over all seeds, and each seed's cues at the end."""
    rows = []
    for name, runs in group_reports(content_of("beyond")["reports"]).items():
        found = [{row["horizon"]: row["success"] for row in run["rows"]} for run in runs]
        means = [f"{sum(one[horizon] for one in found) / len(found):.3f}" for horizon in FAR]
        last = [one[FAR[-1]] for one in found]
        rows.append((sum(last), [name, *means, each((CUES * one for one in last), ".0f")]))
    rows.sort(key=lambda row: -row[0])
    headings = ["model, trained at", *(f"{horizon:,}" for horizon in FAR), "each seed's cues"]
    return table(headings, [row for _, row in rows])


def draws() -> str:
    """Lay out scripts and environment steps a CPU-second against the number of draws."""
    rows = content_of("draws")["training"]
    numbers = sorted({row["draws"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["controller"] for row in rows):
        own = {row["draws"]: row for row in rows if row["controller"] == name}
        scripts = [f"{own[number]['scripts_per_cpu_second']:,.0f}" for number in numbers]
        steps = f"{own[numbers[-1]]['steps_per_cpu_second']:,.0f}"
        lines.append([f"`{name}`", *scripts, steps])
    return table(["", *(f"K = {number}" for number in numbers), f"environment steps, K = {numbers[-1]}"], lines)


def contamination() -> str:
    """Lay out success far beyond training where the delay is not blank: the mean over the seeds that were run."""
    groups: dict[tuple[str, float, float], list[Run]] = {}
    for report in content_of("contamination")["reports"]:
        noises = report["trained_task_args"]["noise"], report["task_args"]["noise"]
        groups.setdefault((report["controller"], *noises), []).append(report)
    horizons = sorted({row["horizon"] for reports in groups.values() for one in reports for row in one["rows"]})
    rows = []
    for (name, trained, asked), reports in groups.items():
        at = {
            horizon: [row["success"] for one in reports for row in one["rows"] if row["horizon"] == horizon]
            for horizon in horizons
        }
        means = [f"{sum(found) / len(found):.2f}" if found else "-" for found in at.values()]
        rows.append([f"`{name}`", f"{trained:g}", f"{asked:g}", *means, str(len(reports))])
    return table(
        ["model", "noise in training", "noise when asked", *(f"{horizon:,}" for horizon in horizons), "seeds"], rows
    )


def records() -> str:
    """Lay out what the longest waits took until the target was first reached, and the memory of an update."""
    rows = []
    for row in content_of("records")["records"]:
        reached = [one for one in row["seeds"] if one["env_steps_to_target"] is not None]
        names = ("updates_to_target", "scripts_to_target", "env_steps_to_target", "cpu_seconds_to_target")
        spans = ["-"] * len(names)
        if reached:
            spans = [
                f"{min(one[name] for one in reached):,.0f} to {max(one[name] for one in reached):,.0f}"
                for name in names
            ]
        seeds = f"{len(reached)} of {len(row['seeds'])}"
        rows.append([f"{row['horizon']:,}", f"`{row['controller']}`", seeds, *spans, f"{row['peak_bytes'] / 1e9:.1f}"])
    return table(
        ["steps", "model", "seeds at the target", "updates", "scripts", "environment steps", "CPU s", "peak GB"], rows
    )


def solved_cells() -> str:
    """Lay out which cells are solved, by which model and at what cost, and how many are."""
    rows = content_of("map")["map"]
    lines = []
    for row in rows:
        reached = f"{row['solved_seeds']} of {len(row['seeds'])}"
        seconds = row["cpu_seconds_to_target"]
        taken = "" if seconds is None else f"{seconds:.1f}" if seconds < 10 else f"{seconds:,.0f}"
        steps = [run["env_steps_to_target"] for run in row["seeds"] if run["env_steps_to_target"] is not None]
        millions = f"{statistics.median(steps) / 1e6:,.0f}" if steps else ""
        successes = each((run["success"] for run in row["seeds"]), ".2f")
        lines.append(
            [
                row["task"],
                row["difficulty"],
                f"`{row['controller']}`" + (" *" if row["curriculum"] else ""),
                f"{row['target']:.2f}",
                successes,
                reached,
                taken,
                millions,
            ]
        )
    headings = [
        "task",
        "difficulty",
        "model",
        "target",
        "success, by seed",
        "at target",
        "CPU s to target",
        "million steps",
    ]
    solved = {(row["task"], row["difficulty"]) for row in rows if row["solved"]}
    grown = len(solved - {(row["task"], row["difficulty"]) for row in rows if row["solved"] and not row["curriculum"]})
    said = f"{len(solved)} of {len(SUITE) * len(DIFFICULTIES)} cells are solved"
    star = f", {grown} of them with a curriculum (*)" if grown else ""
    return f"{table(headings, lines)}\n\n{said}: at the target on at least four of five seeds{star}."
