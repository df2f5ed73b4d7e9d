"""The width at which a network has a given number of parameters, to compare models of one size."""

from __future__ import annotations

from dataclasses import replace

from memsuite.controllers import controller_class
from memsuite.controllers.about.match import near, nearest_width
from memsuite.controllers.base import accepted_arguments
from memsuite.errors import UsageError
from memsuite.rl.resolve import model_of
from memsuite.runs import RunConfig
from memsuite.tasks import Task


def equal_width(config: RunConfig, task: Task, parameters: int) -> int:
    """Return the ``hidden_dim`` whose network has nearest to this number of parameters, heads included.

    Args:
        config: the settings with every default filled in.
        task: of the run.
        parameters: the number asked for.

    Raises:
        UsageError: the controller takes no ``hidden_dim``, or no width comes within a tenth of the number.
    """
    name = config.controller
    if "hidden_dim" not in accepted_arguments(controller_class(name)):
        raise UsageError(f"{name} takes no hidden_dim, so its size cannot be set; give it one, or leave parameters out")

    def count(width: int) -> int:
        arguments = {**(config.controller_args or {}), "hidden_dim": width}
        model = model_of(replace(config, controller_args=arguments), task)
        return sum(parameter.numel() for parameter in model.parameters())

    width, found = nearest_width(count, parameters)
    if not near(found, parameters):
        raise UsageError(f"no width of {name} has about {parameters:,} parameters; hidden_dim {width} has {found:,}")
    return width
