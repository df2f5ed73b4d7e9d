"""The maps into and out of a recurrence, the policy's distribution and PPO's loss: against PyTorch, compiled or not."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from memsuite.ops import log_prob, narrow_linear, normed_linear, surrogate
from memsuite.ops.build import cpu
from memsuite.ops.fused.surrogate import TERMS

MAPS = ["narrow_linear", "normed_linear"]
LOSSES = {"surrogate": (None, False), "surrogate, by advantage": (None, True), "surrogate, held": (0.3, True)}
CASES = [*MAPS, "log_prob", *LOSSES]
# Rows, the narrow side, the wide side; more rows than a block, more outputs than a vector, and sizes of one.
SHAPES = [((1,), 1, 1), ((3, 2), 9, 128), ((40, 33), 5, 33), ((7, 300), 17, 20), ((2, 3, 4), 70, 3)]


def arguments(case: str, rows: tuple[int, ...], narrow: int, wide: int, dtype=torch.float64) -> list[Tensor | float]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    if case == "narrow_linear":
        return [draw(*rows, narrow), draw(wide, narrow), draw(wide)]
    if case == "normed_linear":
        return [draw(*rows, wide), draw(narrow, wide), 1e-3]
    logits, actions = 5 * draw(*rows, narrow), torch.randint(narrow, rows)
    if case == "log_prob":
        return [logits, actions]
    values, old_values, advantages, returns = draw(4, *rows)
    old = chosen(logits, actions) + 0.3 * draw(*rows)
    value_clip, by_advantage = LOSSES[case]
    return [logits, values, actions, old, old_values, advantages, returns, 0.2, value_clip, 0.5, 0.03, by_advantage]


def chosen(logits: Tensor, actions: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def loss_of(given: list) -> tuple[Tensor, Tensor]:
    """Return PPO's loss by its formula, and its terms."""
    logits, values, actions, old, old_values, advantages, returns = given[:7]
    clip, value_clip, value_coefficient, entropy_coefficient, by_advantage = given[7:]
    ratio = (chosen(logits, actions) - old).exp()
    policy = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()
    error = (values - returns) ** 2
    if value_clip is not None:
        held = old_values + (values - old_values).clamp(-value_clip, value_clip)
        error = torch.maximum(error, (held - returns) ** 2)
    value, entropy = 0.5 * error.mean(), torch.distributions.Categorical(logits=logits).entropy()
    bonus = (entropy * (advantages.abs() if by_advantage else 1)).mean()
    total = policy + value_coefficient * value - entropy_coefficient * bonus
    kl, clipped = (ratio - 1 - ratio.log()).mean(), ((ratio - 1).abs() > clip).double().mean()
    return total, torch.stack([total, policy, value, entropy.mean(), kl, clipped]).detach()


def expected_of(case: str, given: list):
    """Return the outputs as PyTorch's own layers make them."""
    if case == "narrow_linear":
        return (functional.linear(*given),)
    if case == "normed_linear":
        x, weight, eps = given
        return (functional.linear(functional.rms_norm(x, x.shape[-1:], eps=eps), weight),)
    if case in LOSSES:
        return loss_of(given)
    return (torch.distributions.Categorical(logits=given[0]).log_prob(given[1]),)


def op_of(case: str) -> str:
    return case.split(",")[0]


def learnt(case: str, given: list) -> list[Tensor]:
    """Return the arguments that need a gradient."""
    if case not in MAPS:
        return given[: 2 if case in LOSSES else 0]
    return [x for x in given if isinstance(x, Tensor) and x.is_floating_point()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch_forward_and_backward(case, shape, dtype, run):
    wide = arguments(case, *shape)
    wide = [x.to(dtype).double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in wide]
    leaves = [x.requires_grad_() for x in learnt(case, wide)]
    expected = expected_of(case, wide)
    cotangent = torch.randn_like(expected[0]).to(dtype)
    gradients = torch.autograd.grad(expected[0], leaves, cotangent.double()) if leaves else ()
    given = [x.detach().to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in wide]
    found = run(op_of(case), False)(*given)
    found = (found,) if isinstance(found, Tensor) else found
    gave: tuple[Tensor, ...] = ()
    if case == "narrow_linear":
        gave, gradients = run(case, True)(cotangent, given[0]), gradients[1:]
    elif case == "normed_linear":
        gave = run(case, True)(cotangent, given[0], given[1], *found[1:])
    elif case in LOSSES:
        gave = tuple(cotangent * x for x in found[2:])
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for one, other in [*zip(found, expected, strict=False), *zip(gave, gradients, strict=True)]:
        assert one.shape == other.shape
        assert (
            float((one.double() - other).detach().abs().max() / other.detach().abs().max().clamp(min=1e-2)) < tolerance
        )


@pytest.mark.parametrize("case", CASES)
def test_registration_and_gradient(case):
    given = arguments(case, (3, 2), 4, 5)
    leaves = [x.requires_grad_() for x in learnt(case, given)]
    torch.library.opcheck(getattr(torch.ops.memsuite, op_of(case)), tuple(given))
    function = {"narrow_linear": narrow_linear, "normed_linear": normed_linear, "surrogate": surrogate}
    if leaves and case in MAPS:
        assert torch.autograd.gradcheck(function[case], given)
    elif leaves:
        assert torch.autograd.gradcheck(lambda *two: surrogate(*two, *given[2:])[0], leaves)


@pytest.mark.skipif(cpu.STATUS.library is None, reason=f"no compiled ops: {cpu.STATUS.reason}")
@pytest.mark.parametrize("case", CASES)
def test_threads_change_no_bit(case):
    given = arguments(case, (90, 37), 9, 48, torch.float32)
    leaves = [x.requires_grad_() for x in learnt(case, given)]
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outputs = getattr(torch.ops.memsuite, op_of(case))(*given)
            outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
            gradients = torch.autograd.grad(outputs[0].sum(), leaves) if leaves else ()
            found.append([*outputs, *gradients])
    finally:
        torch.set_num_threads(1)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_a_certain_policy_has_no_entropy_and_finite_gradients(run):
    logits, actions = torch.tensor([[90.0, 0.0, -90.0], [-3e4, 3e4, 0.0]]), torch.tensor([0, 2])
    found = run("log_prob", False)(logits, actions)
    torch.testing.assert_close(found, torch.tensor([0.0, -3e4]))
    zero, one = torch.zeros(2), torch.ones(2)
    given = (logits, zero, actions, found, zero, one, zero)
    _, terms, gradients, _ = run("surrogate", False)(*given, 0.2, None, 0.5, 0.1, False)
    assert abs(float(terms[TERMS.index("entropy")])) < 1e-6
    torch.testing.assert_close(gradients, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.5, -0.5]]), atol=1e-6, rtol=0)


def test_what_is_not_finite_is_not_hidden(run):
    logits, actions = torch.zeros(20, 3), torch.zeros(20, dtype=torch.int64)
    logits[4, 1], logits[5, 0] = float("nan"), float("inf")
    bad = ~run("log_prob", False)(logits, actions).isfinite()
    assert bad.nonzero().flatten().tolist() == [4, 5]
    zero = torch.zeros(20)
    sound = [torch.zeros(20, 3), zero, actions, zero, zero, zero, zero]
    for at in (0, 1, 3, 4, 5, 6):
        given = [*sound[:at], logits if at == 0 else logits[:, 1], *sound[at + 1 :]]
        assert run("surrogate", False)(*sound, 0.2, 0.2, 0.5, 0.1, True)[0].isfinite()
        assert not run("surrogate", False)(*given, 0.2, 0.2, 0.5, 0.1, True)[0].isfinite()


@pytest.mark.parametrize("action", [-1, 3])
def test_an_action_that_is_none_is_refused(action):
    with pytest.raises(RuntimeError, match=r"out of (range|bounds)"):
        log_prob(torch.zeros(2, 3), torch.tensor([0, action]))
    rows = [torch.zeros(2) for _ in range(5)]
    with pytest.raises(RuntimeError, match=r"out of (range|bounds)"):
        surrogate(torch.zeros(2, 3), rows[0], torch.tensor([0, action]), *rows[1:], 0.2, None, 0.5, 0.1, True)


def test_a_wide_or_single_step_goes_to_pytorch():
    x, weight = torch.randn(5, 2, 40), torch.randn(3, 40)
    assert torch.equal(narrow_linear(x, weight), functional.linear(x, weight))
    assert torch.equal(narrow_linear(x[0, :, :4], weight[:, :4]), functional.linear(x[0, :, :4], weight[:, :4]))
