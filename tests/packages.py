"""Packages of the extra ``peers``, which some configurations and suites need and the usual set-up lacks."""

from pathlib import Path

import pytest


def skip_without_packages(path: Path) -> None:
    """Skip a test of a configuration or a suite whose package is not installed."""
    for package in ("popgym", "minigrid"):
        if package in path.read_text():
            pytest.importorskip(package, reason="comes with memsuite-rl[peers], not with the usual set-up")
