"""A controller of the user's own, tried: its state, both modes, one gradient, one update, a save and a load."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from memsuite.blame import blamed_on
from memsuite.controllers.base import Controller, map_state
from memsuite.controllers.copies import copied
from memsuite.errors import UsageError
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.optimizer import make_optimizer
from memsuite.runs.ppo import ResolvedPPO
from memsuite.tasks import Task
from memsuite.trial.modes import check_modes
from memsuite.trial.task import first_steps
from memsuite.types import State

BATCH, STEPS = 5, 12
TOLERANCE = 1e-3  # of the ratio of what is learnt from to what acted, in 32 bits


def try_controller(
    who: str,
    model: ActorCritic,
    task: Task,
    ppo: ResolvedPPO,
    acts_in_the_update: bool,
    device: torch.device,
    precision: str,
) -> Iterator[str]:
    """Try a controller on copies of it; yield what the user should know of.

    Args:
        who: names it, and where it stands.
        model: the network.
        task: says how wide observations are.
        ppo: the settings.
        acts_in_the_update: the pass that draws the actions is the one that is learnt from, so the two cannot differ.
        device: where the run will be.
        precision: of the run, as Lightning names it.

    Raises:
        UsageError: one line that says what is wrong.
    """
    with blamed_on(who):
        model = copied(model).to(device)
        controller = model.controller
        check_parameters(who, controller)
        x = torch.rand(STEPS, BATCH, task.observation_dim, device=device)
        if precision == "64-true":
            model, x = model.double(), x.double()
        x[:, -1] = first_steps(task, STEPS, device)
        x = model.read(x).detach()
        is_first = torch.zeros(STEPS, BATCH, dtype=torch.bool, device=device)
        is_first[0], is_first[STEPS // 2, 1] = True, True
        before = x.clone()
        with torch.no_grad():
            acted = act(who, controller, x, is_first)
        check_untouched(who, x, before)
        check_gradient(who, model, x, is_first, ppo)
        check_untouched(who, x, before)
        if not acts_in_the_update:
            check_ratio(who, model, x, is_first)
        check_modes(who, controller, x, is_first, acted)
        if precision == "bf16-mixed":
            run_in_half_precision(controller, x, is_first)
        yield from notes_on_modes(who, controller, x, is_first)


def run_in_half_precision(controller: Controller, x: Tensor, is_first: Tensor) -> None:
    """Run both modes and a gradient as under autocast, where products have half precision; what they raise is told."""
    with torch.autocast(x.device.type, torch.bfloat16):
        state = controller.init_state(BATCH, x.device)
        controller.forward_step(x[0], controller.reset_mask(state, is_first[0]))
        features, _ = controller.forward_sequence(x, state, is_first)
        if features.requires_grad:
            features.float().sum().backward()  # type: ignore[no-untyped-call]


def check_untouched(who: str, x: Tensor, before: Tensor) -> None:
    """Refuse a controller that writes into the observations that it is given, which others read too."""
    if not torch.equal(x, before):
        raise UsageError(f"{who}: it writes into the observations that it is given; work on a copy")


def check_parameters(who: str, controller: Controller) -> None:
    """Refuse parameters that are not trained in 32 bits or more, or hold complex numbers."""
    for name, parameter in controller.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UsageError(f"{who}: {name} has no shape yet; give lazy layers their width, input_dim")
        if parameter.is_complex():
            raise UsageError(
                f"{who}: {name} holds complex numbers; keep nn.Parameter(torch.view_as_real(x)) and use "
                "torch.view_as_complex of it, so that it is trained and saved as real numbers"
            )
        if parameter.dtype not in (torch.float32, torch.float64):
            raise UsageError(f"{who}: {name} is {parameter.dtype}; parameters must be of 32 or 64 bits")


def act(who: str, controller: Controller, x: Tensor, is_first: Tensor) -> Tensor:
    """Act step by step; return the features ``[T, B, F]``. Refuse states and features of other kinds than they must be.

    Args:
        who: names the controller.
        controller: is tried.
        x: observations ``[T, B, D]``.
        is_first: bool ``[T, B]``.
    """
    state = begun = controller.init_state(BATCH, x.device)
    check_state(who, "init_state", state, None)
    features = []
    for step, first in zip(x, is_first, strict=True):
        state = controller.reset_mask(state, first)
        check_state(who, "reset_mask", state, begun)
        feature, state = controller.forward_step(step, state)
        check_state(who, "forward_step", state, begun)
        check_features(who, "forward_step", feature, (BATCH, controller.feature_dim))
        features.append(feature.clone())
    check_reset(who, controller, x[0], state)
    check_left_alone(who, controller, x[0], state)
    check_saved(who, state)
    return torch.stack(features)


def check_state(who: str, where: str, state: Any, like: Any) -> None:
    """Refuse a state that is no tree of tensors with the batch in dimension 0, or that has become another."""
    for container in _containers(state):
        if type(container) not in (tuple, list, dict):
            raise UsageError(
                f"{who}: {where} returns a state with a {type(container).__name__}; use tuples, lists and dicts of "
                "tensors, which a checkpoint can hold"
            )
    for leaf in pytree.tree_leaves(state):
        if not isinstance(leaf, Tensor):
            raise UsageError(
                f"{who}: {where} returns a state with {leaf!r}; every part must be a tensor with the batch in "
                "dimension 0: an int can be torch.zeros(batch_size), None can be left out"
            )
        if leaf.dim() == 0 or leaf.shape[0] != BATCH:
            raise UsageError(
                f"{who}: {where} returns a state of shape {list(leaf.shape)} for a batch of {BATCH}; the batch must be "
                "in dimension 0"
            )
    if like is not None and _kinds(state) != _kinds(like):
        grown = [leaf.shape for leaf in pytree.tree_leaves(state)] != [leaf.shape for leaf in pytree.tree_leaves(like)]
        why = "as memory is bounded" if grown else "so let init_state take the dtype of the parameters"
        raise UsageError(
            f"{who}: {where} returns a state of {_kinds(state)[1]}, init_state one of {_kinds(like)[1]}; its shapes "
            f"and kinds must stay, {why}"
        )


def _containers(state: Any) -> Iterator[Any]:
    """Yield every node of a state that is neither a tensor nor a plain value."""
    if isinstance(state, Tensor | int | float | complex | str | bytes | None):
        return
    yield state
    children = state.values() if isinstance(state, dict) else state if isinstance(state, tuple | list) else ()
    for child in children:
        yield from _containers(child)


def _kinds(state: State) -> tuple[Any, list[str]]:
    leaves, structure = pytree.tree_flatten(state)
    return structure, [f"{list(leaf.shape)} {str(leaf.dtype).removeprefix('torch.')}" for leaf in leaves]


def check_features(who: str, where: str, features: Any, shape: tuple[int, ...]) -> None:
    """Refuse features that are no finite real numbers of the shape that is declared."""
    if not isinstance(features, Tensor) or tuple(features.shape) != shape:
        given = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise UsageError(f"{who}: {where} returns features of shape {given}; feature_dim asks for {list(shape)}")
    if not features.is_floating_point():
        raise UsageError(f"{who}: {where} returns features of {features.dtype}; they must be real numbers")
    if not torch.isfinite(features).all():
        raise UsageError(f"{who}: {where} returns features that are not finite, before anything is learnt")


def check_reset(who: str, controller: Controller, x: Tensor, state: State) -> None:
    """Refuse a reset that leaves something of the past, or touches rows that it should not."""
    first = torch.arange(BATCH, device=x.device) % 2 == 0
    before = map_state(torch.clone, state)
    leaves = zip(
        pytree.tree_leaves(controller.reset_mask(state, first)),
        pytree.tree_leaves(controller.init_state(BATCH, x.device)),
        pytree.tree_leaves(before),
        strict=True,
    )
    for reset, begun, kept in leaves:
        if not torch.equal(reset[first], begun[first]):
            raise UsageError(f"{who}: reset_mask leaves something of the past in rows that begin an episode")
        if not torch.equal(reset[~first], kept[~first]):
            raise UsageError(f"{who}: reset_mask changes rows that begin no episode")


def check_left_alone(who: str, controller: Controller, x: Tensor, state: State) -> None:
    """Refuse a step that writes into the state that it is given, which the next update begins from."""
    before = map_state(torch.clone, state)
    controller.forward_step(x, controller.reset_mask(state, torch.zeros(BATCH, dtype=torch.bool, device=x.device)))
    pairs = zip(pytree.tree_leaves(before), pytree.tree_leaves(state), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs):
        raise UsageError(f"{who}: forward_step writes into the state that it is given; return a new one")


def check_saved(who: str, state: State) -> None:
    """Refuse a state that a checkpoint does not give back as it was."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    again = torch.load(file, map_location="cpu", weights_only=True)
    pairs = zip(pytree.tree_leaves(map_state(Tensor.cpu, state)), pytree.tree_leaves(again), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs):
        raise UsageError(f"{who}: its state is another once it was saved and loaded")


def check_gradient(who: str, model: ActorCritic, x: Tensor, is_first: Tensor, ppo: ResolvedPPO) -> None:
    """Take one gradient and one step of the optimiser, as an iteration does, on a copy."""
    model = copied(model)
    controller = model.controller
    features, state = controller.forward_sequence(x, controller.init_state(BATCH, x.device), is_first)
    check_features(who, "forward_sequence", features, (STEPS, BATCH, controller.feature_dim))
    check_state(who, "forward_sequence", state, controller.init_state(BATCH, x.device))
    trained = [parameter for parameter in controller.parameters() if parameter.requires_grad]
    if trained and not features.requires_grad:
        raise UsageError(f"{who}: no gradient reaches its parameters; is there a detach() or no_grad() in its forward?")
    logits, values = model.heads(features, x)
    loss = logits.square().mean() + values.square().mean() + features.double().square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    found = [parameter.grad for parameter in trained]
    if trained and all(gradient is None for gradient in found):
        raise UsageError(f"{who}: no gradient reaches its parameters; is there a detach() or no_grad() in its forward?")
    if not all(torch.isfinite(gradient).all() for gradient in found if gradient is not None):
        raise UsageError(f"{who}: a gradient is not finite, before anything is learnt")
    make_optimizer(model, ppo).step()


def check_ratio(who: str, model: ActorCritic, x: Tensor, is_first: Tensor) -> None:
    """Refuse a controller whose policy is another when it is learnt from than when it acted.

    As in a run the whole batch acts and a part of it is learnt from. The heads have weights of size 1 here: those that
    a run begins with would hide a difference.
    """
    controller, rows = model.controller, torch.tensor([0, 1, 3], device=x.device)
    head = torch.randn(4, controller.feature_dim, device=x.device, dtype=x.dtype) * controller.feature_dim**-0.5
    with torch.no_grad():
        state = controller.init_state(BATCH, x.device)
        acted = controller.forward_sequence(x, state, is_first)[0][:, rows].double()
        state = controller.init_state(BATCH, x.device)
        stepped = act(who, controller, x, is_first)[:, rows].double()
    learnt = controller.forward_sequence(x[:, rows], map_state(lambda leaf: leaf[rows], state), is_first[:, rows])[0]
    policies = [
        (head.double() @ part.detach().double().unsqueeze(-1)).squeeze(-1).log_softmax(-1)
        for part in (acted, stepped, learnt)
    ]
    off = [float((policies[2] - policy).exp().sub(1).abs().max()) for policy in policies[:2]]
    if max(off) > TOLERANCE:
        which = "it acts step by step" if off[0] <= TOLERANCE else "it acts"
        raise UsageError(
            f"{who}: its policy when it learns is not the one when {which}: probabilities differ by "
            f"{100 * max(off):.1g}% before anything is learnt; does it draw random numbers, mix environments, or keep "
            "something outside its state?"
        )


def notes_on_modes(who: str, controller: Controller, x: Tensor, is_first: Tensor) -> Iterator[str]:
    """Say so where a controller computes otherwise in training mode, which it is never in."""
    found = []
    with torch.no_grad():
        for mode in (False, False, True):
            torch.manual_seed(0)
            part = copied(controller).train(mode)
            found.append(part.forward_sequence(x, part.init_state(BATCH, x.device), is_first)[0])
    if torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2]):
        yield (
            f"{who}: it computes otherwise in training mode (dropout, statistics of the batch); it acts and learns in "
            "evaluation mode here, so that the policy that is updated is the one that acted"
        )
