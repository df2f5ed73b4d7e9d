"""The options by which verbs name controllers and their sizes, and the controllers that are built of them."""

from __future__ import annotations

import argparse

import torch

from memsuite.controllers import CONTROLLERS, Controller, controller_class, make_controller
from memsuite.controllers.base import accepted_arguments
from memsuite.errors import UsageError
from memsuite.launch.plain import whole_numbers
from memsuite.reading import positive


def add_sizes(
    parser: argparse.ArgumentParser, hidden_dim: int, input_dim: int, memory_horizon: int | None = None
) -> None:
    """Add the options, with these defaults; the depth's is one."""
    usual = "the model's default" if memory_horizon is None else memory_horizon
    parser.add_argument("names", nargs="*", help="names, or paths of your own classes: my_module.MyModel; default: all")
    parser.add_argument("--hidden_dim", type=positive, default=hidden_dim, help=f"width; default: {hidden_dim}")
    parser.add_argument("--depth", type=positive, default=1, help="layers; default: 1")
    parser.add_argument(
        "--memory_horizon", type=int, default=memory_horizon, help=f"steps to be initialised for; default: {usual}"
    )
    parser.add_argument(
        "--input_dim", type=positive, default=input_dim, help=f"width of the observation; default: {input_dim}"
    )


def horizons_of(text: str, least: int = 2) -> list[int]:
    """Read ``--horizons``: numbers of steps, or none.

    Raises:
        UsageError: it is neither, or a number is below the least.
    """
    horizons = [] if text == "none" else list(dict.fromkeys(whole_numbers("--horizons", text)))
    if horizons and min(horizons) < least:
        raise UsageError(f"--horizons has {min(horizons)}; the least is {least}")
    return horizons


def named(names: list[str]) -> list[str]:
    """Return the names given, or all built in; a usage error for an unknown one, before anything is measured."""
    for name in names:
        controller_class(name)
    return names or list(CONTROLLERS)


def build(name: str, options: argparse.Namespace, memory_horizon: int | None) -> Controller:
    """Build a controller of the sizes given, the same at every call; one without ``hidden_dim`` has its own width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_dim": options.hidden_dim, "depth": options.depth}
        if "hidden_dim" not in accepted_arguments(controller_class(name)):
            del sizes["hidden_dim"]
        return make_controller(name, input_dim=options.input_dim, memory_horizon=memory_horizon, **sizes)


def devices() -> list[str]:
    """List the kinds of device at hand."""
    return ["cpu"] + [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()]


def runs_on(controller: Controller, device: str) -> bool:
    """Run a few steps forward and backward on a device; tell whether that works."""
    home = next(controller.parameters()).device
    try:
        controller.to(device)
        x, is_first = torch.zeros(3, 2, controller.input_dim, device=device), torch.zeros(3, 2, device=device)
        features, _ = controller.forward_sequence(x, controller.init_state(2, device), is_first.bool())
        features.sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError, TypeError):
        return False
    finally:
        controller.to(home)
    return True
