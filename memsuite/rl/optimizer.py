"""The optimiser of a run: Adam, or Adam with orthogonalised updates of the controller's matrices (Muon)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from memsuite.rl.actor_critic import ActorCritic
from memsuite.runs.ppo import ResolvedPPO

EPSILON = 1e-5  # of Adam
MOMENTUM = 0.95  # of the matrices' gradients, as published
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic iteration of Jordan et al. 2024
ITERATIONS = 5
EMBEDDING = "embed.weight"  # of a stack; as published, a map of one-hot inputs is learnt by Adam


def make_optimizer(model: ActorCritic, ppo: ResolvedPPO) -> torch.optim.Optimizer:
    """Return the optimiser that the settings ask for, with the recurrent parameters in groups of their own.

    Each group has a ``scale``, its learning rate relative to ``ppo.learning_rate``. The module sets the rates from it
    before every iteration, as they fall over the run.
    """
    groups = model.parameter_groups(ppo.recurrent_lr_scale)
    settings: dict[str, Any] = {
        "lr": ppo.learning_rate,
        "betas": (ppo.adam_beta1, 0.999),
        "eps": EPSILON,
        "fused": True,
    }
    if ppo.optimizer == "adam":
        return torch.optim.Adam(groups, **settings)
    matrices = {id(parameter) for parameter in inner_matrices(model)}
    parts = [part for group in groups for part in _parted(group, matrices, ppo.matrix_lr_scale)]
    return Muon(parts, decay=ppo.matrix_decay, **settings)


def inner_matrices(model: ActorCritic) -> list[nn.Parameter]:
    """Return the parameters of the controller with two dimensions, but for the map that embeds the observation.

    Mamba's table of rates, ``A_log``, has two dimensions too and is one of them.
    """
    named = model.controller.named_parameters()
    return [parameter for name, parameter in named if parameter.ndim == 2 and name != EMBEDDING]


def _parted(group: dict[str, Any], inner: set[int], scale: float) -> list[dict[str, Any]]:
    """Split a group into the parameters that Adam learns and the matrices whose updates are orthogonalised."""
    matrices = [one for one in group["params"] if id(one) in inner]
    rest = [one for one in group["params"] if id(one) not in inner]
    parts = [
        {**group, "params": rest, "orthogonal": False},
        {**group, "params": matrices, "orthogonal": True, "scale": group["scale"] * scale},
    ]
    return [part for part in parts if part["params"]]


class Muon(torch.optim.Adam):
    """Adam, and Muon (Jordan et al. 2024) for the groups of matrices that say ``orthogonal``.

    Muon takes the momentum of a matrix's gradient and moves the matrix by the nearest matrix whose singular values are
    all about 1, so that what the gradient says rarely is learnt as quickly as what it says at every step. The update is
    scaled to the root mean square of Adam's, ``0.2 sqrt(max(rows, columns))`` (Liu et al. 2025, arXiv 2502.16982), so
    that one learning rate means the same for both.

    Like a fused Adam it reads ``found_inf`` and leaves parameters and state alone where that is 1, so the host waits
    for nothing.

    Args:
        params: groups of parameters, each of which says whether it is ``orthogonal``.
        decay: share of a matrix's distance from its first value, times its rate, that each step takes off.
        settings: those of :class:`torch.optim.Adam`.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, decay: float = 0.0, **settings: Any) -> None:
        super().__init__(params, **settings)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            loss: float | None = super().step(closure)
        finally:
            self.param_groups = groups
        skip = getattr(self, "found_inf", None)
        for group in groups:
            if group["orthogonal"]:
                self._step_matrices(group, None if skip is None else skip.bool())
        return loss

    def _step_matrices(self, group: dict[str, Any], skip: Tensor | None) -> None:
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state["step"] = torch.zeros((), device=matrix.device)  # Adam, whose class this is, expects one
                state["momentum"] = torch.zeros_like(matrix)
                if self.decay:
                    state["first"] = matrix.clone()
            momentum = state["momentum"].lerp(matrix.grad, 1 - MOMENTUM)
            update = orthogonalised(matrix.grad.lerp(momentum, MOMENTUM))
            scale = 0.2 * max(matrix.shape) ** 0.5 * group["lr"]
            if skip is not None:
                momentum = torch.where(skip, state["momentum"], momentum)
                update = torch.where(skip, 0.0, update)
            state["momentum"].copy_(momentum)
            state["step"] += 1 if skip is None else (~skip).float()
            if self.decay:
                share = matrix.new_full((), min(1.0, self.decay * group["lr"]))
                matrix.lerp_(state["first"], share if skip is None else torch.where(skip, 0.0, share))
            matrix.sub_(update.to(matrix.dtype), alpha=scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix ``[R, C]`` whose singular values are 1, with the singular vectors of ``matrix``.

    Five steps of a Newton-Schulz iteration bring each singular value to between 0.7 and 1.2, which is near enough and
    needs products alone. They run in bfloat16 where the machine multiplies it quickly.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.mT).to(_precision(matrix))
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


def _precision(matrix: Tensor) -> torch.dtype:
    if matrix.dtype == torch.float64:
        return torch.float64
    quick = matrix.device.type == "cuda" or getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.bfloat16 if quick else torch.float32
