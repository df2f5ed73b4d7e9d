"""``memsuite bench training``: how fast the controllers train, and how the time divides over an iteration.

One thread trains the work of :func:`memsuite.bench.measure.train_briefly` in 64 environments, through Lightning and
with everything that a run does.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from memsuite.bench.measure import PEERS_PPO, Cycles, parameter_count, spent, train_briefly
from memsuite.ops.products import check_products
from memsuite.rl import PPOConfig
from memsuite.runs.ppo import Products

NUM_ENVS = 64
SECTIONS = ("rollout", "update", "logging", "lightning")


def measure(
    console: Console,
    controllers: list[str],
    horizons: list[int],
    draws: list[int],
    products: list[Products],
    repeats: int,
) -> list[dict[str, Any]]:
    """Measure every controller at every horizon.

    Args:
        console: shows which controller is being trained.
        controllers: names of the controllers, with arguments as in :mod:`memsuite.bench.variants`.
        horizons: episode lengths in steps.
        draws: numbers of environments that share a script, each measured; empty for the peers' work, without sharing.
        products: precisions of products (:mod:`memsuite.ops.products`), each measured.
        repeats: number of iterations that count; at horizons below 400 steps, ``400 // horizon`` times as many.
    """
    for precision in products:
        check_products(precision, torch.device("cpu"))
    rows = []
    shared = draws or cast(list[int | None], [None])
    for controller, horizon, number, precision in itertools.product(controllers, horizons, shared, products):
        with console.status(f"training {controller} at horizon {horizon}"):
            rows.append(measure_one(controller, horizon, repeats, number, precision))
    return rows


def one_pass(draws: int) -> PPOConfig:
    """Return the default recipe with this number of draws and one pass; a single draw is compared with a critic."""
    return PPOConfig(draws=draws, minibatches=4, advantage="group_mean" if draws > 1 else "gae")


def measure_one(
    controller: str, horizon: int, repeats: int, draws: int | None = None, products: Products = "float32"
) -> dict[str, Any]:
    """Train one controller, and time whole iterations, from the start of one to the start of the next.

    Args:
        controller: name of the sequence model.
        horizon: episode length in steps.
        repeats: as for :func:`measure`.
        draws: number of environments that share each of the 64 scripts; None for the peers' work.
        products: precision of products; the row names one that is not float32.

    Returns:
        ``steps_per_cpu_second``, ``steps_per_second``, ``parameters``, and ``share``: the fraction of the CPU time in
        each of :data:`SECTIONS`, in [0, 1]. With ``draws`` also ``scripts_per_cpu_second``.
    """
    count = max(1, 400 // horizon) * repeats + 3  # two iterations warm up, and none follows the last one to time it
    cycles = Cycles()
    num_envs, ppo = NUM_ENVS * (draws or 1), PEERS_PPO if draws is None else one_pass(draws)
    ppo = replace(ppo, products=products)
    module = train_briefly(controller, num_envs, horizon, count, cycles, "cpu", ppo)
    steps = num_envs * horizon
    wall, cpu = (spent(cycles.marks, "total", clock) for clock in (0, 1))
    shares = {name: spent(cycles.marks, name, 1) / cpu for name in SECTIONS[:-1]}
    shared = {} if draws is None else {"draws": draws, "scripts_per_cpu_second": NUM_ENVS / cpu}
    return {
        "controller": controller,
        "horizon": horizon,
        **shared,
        **({} if products == "float32" else {"products": products}),
        "parameters": parameter_count(module),
        "steps_per_cpu_second": steps / cpu,
        "steps_per_second": steps / wall,
        "share": shares | {"lightning": 1 - spent(cycles.marks, "training", 1) / cpu},
    }


def table(report: list[dict[str, Any]]) -> Table:
    """Lay out the report: one row for each controller, horizon, precision and number of draws."""
    shared = ["draws", "scripts / CPU-s"] if any("draws" in row for row in report) else []
    products = ["products"] if any("products" in row for row in report) else []
    title = "Training steps"
    found = Table("controller", "horizon", *products, *shared, "steps / CPU-s", "steps / s", *SECTIONS, title=title)
    for row in report:
        speeds = [f"{row[key]:,.0f}" for key in ("steps_per_cpu_second", "steps_per_second")]
        if shared:
            speeds = [str(row["draws"]), f"{row['scripts_per_cpu_second']:,.0f}", *speeds]
        if products:
            speeds = [row.get("products", "float32"), *speeds]
        shares = [f"{100 * row['share'][name]:.1f}%" for name in SECTIONS]
        found.add_row(row["controller"], str(row["horizon"]), *speeds, *shares)
    return found
