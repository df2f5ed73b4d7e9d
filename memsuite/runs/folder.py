"""The names of what lies in a run folder, each spelt once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

RESULT = "result.json"  # the record of a finished run
CONFIG = "config.yaml"
METRICS = "metrics.csv"
LOG = "log.txt"
RETENTION = "retention.json"
LOGGERS = "loggers.json"  # the folders of the loggers that number them, so that a run goes on in its own
CHECKPOINTS = "checkpoints"
ASKED = "asked.json"  # the settings with which a suite started the run
SOURCE = "source"  # copies of the user's own files that the run was made with
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"  # in the folder of checkpoints
# What tells that a folder holds a run, and what else goes with it.
HELD = (RESULT, CONFIG, METRICS)
WEIGHTS = (f"{CHECKPOINTS}/{LAST}", f"{CHECKPOINTS}/{PREVIOUS}")
HARMFUL = re.compile(r"[^\w.+:-]+")  # what is not put into the name of a folder


def mark(key: str, value: Any) -> str:
    """Spell one setting for the name of a run: ``hidden_dim64``, ``critic_memory``."""
    leaf = key.rpartition(".")[2]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{leaf}{value}" if number else f"{leaf}_{value}"


def run_id(settings: Mapping[str, Any], label: str = "") -> str:
    """Name a run, and its folder, after what tells it from others: ``delayed_cue-medium-H50/gru/seed0``.

    Args:
        settings: at least the names of :data:`~memsuite.runs.config.IDENTITY`.
        label: what else tells it apart; it follows the controller's name.
    """
    horizon = "" if settings["horizon"] is None else f"-H{settings['horizon']}"
    task = f"{settings['task']}-{settings['difficulty']}{horizon}"
    parts = (task, f"{settings['controller']}{label}", f"seed{settings['seed']}")
    return "/".join(HARMFUL.sub("_", part).lstrip(".") for part in parts)
