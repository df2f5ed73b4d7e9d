"""Lightning's argument parser, with the one-line answers of :class:`~memsuite.launch.arguments.Arguments`."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from memsuite.launch.arguments import Arguments


class Parser(Arguments, LightningArgumentParser):
    """The parser of ``memsuite fit``: the settings of a run and all keys of Lightning's Trainer."""
