"""A look at every run of a suite before the first one starts: each is built as ``memsuite fit`` would, and left.

Lightning is imported only for runs that set something of its Trainer's, as it takes longer to import than a thousand
runs take to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch

from memsuite.errors import UsageError, nearest
from memsuite.launch.looking import Look, size_of
from memsuite.rl.course import Course
from memsuite.rl.width import equal_width
from memsuite.runs import RunConfig
from memsuite.suite.content import ENTRY_KEYS
from memsuite.suite.estimate import Size
from memsuite.suite.grid import Run

WIDTH = "controller_args.hidden_dim"
PLACES = ("device", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")


@dataclass(frozen=True)
class Checked:
    """What the look has shown.

    Attributes:
        sizes: how much work each run is, in their order.
        gpus: the GPUs that PyTorch can use here.
    """

    sizes: list[Size]
    gpus: int


def check(runs: list[Run], elsewhere: bool) -> Checked:
    """Build every run that differs in more than its seed.

    Args:
        runs: the runs.
        elsewhere: they will run on other machines, so what they ask of devices is not looked for here.

    Raises:
        UsageError: what ``memsuite fit`` would say, with the run's id.
    """
    look = Look()
    if others := [run for run in runs if not look.takes(run)]:
        _check_keys(others)
    sizes: dict[str, Size] = {}
    for run in runs:
        key = _without_seed(run)
        if key not in sizes:
            try:
                sizes[key] = look.size(run) if look.takes(run) else _size(run, elsewhere)
            except UsageError as error:
                raise UsageError(f"{run.id}: {error}") from error
        seed = run.asked.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise UsageError(f"{run.id}: seed is {seed!r}; it must be a whole number between 0 and {2**32 - 1}")
    return Checked([sizes[_without_seed(run)] for run in runs], torch.cuda.device_count())


def of_equal_size(runs: list[Run], parameters: int) -> list[Run]:
    """Give every run the width at which its network has nearest to this number of parameters.

    Raises:
        UsageError: a run has a width already, or there is none that fits; the run's id is named.
    """
    look = Look()
    if others := [run for run in runs if not look.takes(run)]:
        _check_keys(others)
    widths: dict[str, int] = {}
    for run in runs:
        key = _without_seed(run)
        try:
            if WIDTH in run.asked:
                raise UsageError(f"{WIDTH} is {run.asked[WIDTH]}; leave it out, or parameters, which sets it")
            if key not in widths:
                config, course = look.resolved(run) if look.takes(run) else _resolved(run, True)
                widths[key] = equal_width(config, course.full_task, parameters)
        except UsageError as error:
            raise UsageError(f"{run.id}: {error}") from error
    return [_with_width(run, widths[_without_seed(run)]) for run in runs]


def _with_width(run: Run, width: int) -> Run:
    return replace(run, settings={**run.settings, WIDTH: width}, asked={**run.asked, WIDTH: width})


def _without_seed(run: Run) -> str:
    return repr({key: value for key, value in run.asked.items() if key != "seed"})


def _resolved(run: Run, elsewhere: bool) -> tuple[RunConfig, Course]:
    """Build the run with its Trainer; return its settings and its course."""
    from memsuite.cli.fit import FitCLI

    if elsewhere:
        run = replace(run, settings={key: value for key, value in run.settings.items() if key not in PLACES})
    module = FitCLI("fit", [*run.options, *(["--device", "cpu"] if elsewhere else [])]).model
    return module.config, module.course


def _size(run: Run, elsewhere: bool) -> Size:
    """Build the run with its Trainer, and see how much work it is."""
    return size_of(*_resolved(run, elsewhere))


def _check_keys(runs: list[Run]) -> None:
    """Refuse a key that ``memsuite fit`` does not know; Lightning, which takes seconds to import, is asked for here."""
    from memsuite.cli.fit import FitCLI
    from memsuite.launch.parser import Parser
    from memsuite.launch.trainer import quiet_lightning

    quiet_lightning()
    known = cast(Parser, FitCLI("fit", []).parser).known_keys()
    for key in {key for run in runs for key in run.settings}:
        if not any(key == name or key.startswith(f"{name}.") for name in known if name):
            close = nearest(key, [*known, *ENTRY_KEYS])
            hint = f"did you mean: {', '.join(close)}" if len(close) <= 3 else "memsuite fit --help lists them"
            raise UsageError(f"no setting {key!r}; {hint}")
