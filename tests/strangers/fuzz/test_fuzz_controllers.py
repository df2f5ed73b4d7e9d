"""Controllers of users, made of drawn parts: what is legal trains right, and what is not is refused in one line."""

from __future__ import annotations

from typing import Any

import torch
from drawn_controllers import FORMS, PLAN, Made, Plan, faults_of
from examples import fuzz, judged
from hypothesis import strategies as st

from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig
from memsuite.trial import try_out


@st.composite
def plans(draw: Any) -> Plan:
    """Draw a controller; half of them have a fault."""
    draws = draw(st.sampled_from([1, 2]))
    fault = draw(st.one_of(st.just(""), st.sampled_from(faults_of(draws))))
    numbers = {"width": st.integers(2, 5), "outputs": st.integers(2, 5), "at": st.integers(1, 11)}
    rest = {"seed": st.integers(0, 2**32 - 1), "doubles": st.booleans(), "in_place": st.booleans()}
    # Where a step copies its state, writing into the copy is no fault; "double" makes a copy, and hides a drift.
    form = draw(st.sampled_from(FORMS if fault not in ("step: writes its state", "step: drifts") else FORMS[:6]))
    return Plan(form, fault=fault, draws=draws, **{name: draw(one) for name, one in {**numbers, **rest}.items()})


def reference(controller: Made, x: torch.Tensor, is_first: torch.Tensor) -> torch.Tensor:
    """Compute what a controller without a fault must give."""
    h, found = torch.zeros(x.shape[1], controller.width, dtype=x.dtype), []
    for now, first in zip(x, is_first, strict=True):
        h = 0.9 * h * ~first[:, None] + controller.w(now)
        found.append(controller.v(h))
    return torch.stack(found)


@fuzz(plans(), quick=60)
def test_controllers(plan: Plan) -> None:
    """What has no fault is built, left as it was by the trial, and gives what its formula says."""
    PLAN[0] = plan

    def build() -> MemoryPPO:
        module = MemoryPPO(
            difficulty="easy",
            horizon=7,
            num_envs=8,
            steps=56,
            evaluation_episodes=4,
            controller="drawn_controllers.Made",
            controller_args={},
            seed=plan.seed,
            ppo=PPOConfig(draws=plan.draws),
        )
        before = {name: value.clone() for name, value in module.model.state_dict().items()}
        try_out(module.config, module.task, module.model, torch.device("cpu"))
        assert all(torch.equal(before[name], value) for name, value in module.model.state_dict().items())
        return module

    module = judged("controllers", {plan.fault} - {""}, "drawn_controllers.Made", build)
    if module is None:
        return
    x, is_first = torch.rand(9, 4, module.task.observation_dim, dtype=module.model.actor.weight.dtype), torch.rand(9, 4)
    controller = module.model.controller
    x, state = x.to(controller.w.weight.dtype), controller.init_state(4)
    with torch.no_grad():
        features, _ = controller.forward_sequence(x, state, is_first < 0.3)
        assert torch.allclose(features, reference(controller, x, is_first < 0.3), atol=1e-5)
    assert module.evaluate(4, "test") == module.evaluate(4, "test")
