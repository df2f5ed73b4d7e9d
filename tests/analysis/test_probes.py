"""Probes find planted content at its known place, and find nothing where nothing was planted."""

import math

import pytest
import torch
from torch.nn.functional import silu, softplus

from memsuite.analysis import probes
from memsuite.controllers import CONTROLLERS, make_controller
from memsuite.errors import UsageError
from memsuite.rl import ActorCritic
from memsuite.tasks import TASKS, ScriptedTask, make_task

from .planted import UNITS, Memoryless, Planted

SCRIPTED = [name for name, cls in TASKS.items() if issubclass(cls, ScriptedTask)]


@pytest.fixture(scope="module")
def noisy_cue():
    """Four cues, of which the first counts; the others fill the delay."""
    return make_task("delayed_cue", "easy", horizon=12, num_cues=4, noise=0.8)


@pytest.mark.parametrize("width", [12, 500])  # fewer numbers than episodes, and more: the dual form
def test_a_planted_memory_is_recovered_exactly(noisy_cue, width):
    planted = Planted(noisy_cue.observation_dim, width)
    exact = probes.decode(planted, noisy_cue, episodes=400, reader=probes.Reader(noise=0.0))
    assert exact.accuracy.eq(1.0).all()
    assert exact.steps.tolist() == list(range(12))
    assert exact.asked == 11
    elsewhere = [unit for unit in range(width + 1) if not UNITS.start <= unit < UNITS.stop]
    assert exact.units[1:, UNITS].min() > 0.5
    assert exact.units[1:, elsewhere].max() < 1e-6
    found = probes.decode(planted, noisy_cue, episodes=400)
    assert found.accuracy.eq(1.0).all()
    assert found.units[1:, elsewhere].max() < 0.2 * found.units[1:, UNITS].min()


def test_nothing_is_found_where_nothing_is_kept(noisy_cue):
    memoryless = Memoryless(noisy_cue.observation_dim)
    for read in ("state", "features"):
        found = probes.decode(memoryless, noisy_cue, read=read, episodes=600)
        later = found.steps > 0  # at the step of the cue itself the features contain the cue
        high = found.prior + 3 * math.sqrt(found.prior * (1 - found.prior) / 600)
        assert found.accuracy[later].max() < high
        assert found.shuffled.max() < high
        assert found.prior < 0.32
        assert (found.accuracy[0] == 1.0) == (read == "features")


def test_the_last_digits_do_not_count():
    task = make_task("delayed_cue", "easy", horizon=6)

    class Faint(Planted):
        """The cue is a hundred-thousandth of this controller's state."""

        def forward_step(self, x_BD, state):
            units, new = super().forward_step(x_BD, state)
            return 1 + 1e-5 * units, new

    faint = Faint(task.observation_dim)
    read = {
        noise: probes.decode(faint, task, read="features", reader=probes.Reader(noise=noise)).accuracy[-1]
        for noise in (0.0, 0.01)
    }
    assert read[0.0] == 1.0
    assert read[0.01] < 0.4


def test_both_forms_of_the_reader_are_one():
    torch.manual_seed(1)
    labels = torch.arange(30) % 3
    wide = torch.randn(30, 40, dtype=torch.float64)
    x, y = wide - wide.mean(0), torch.nn.functional.one_hot(labels).double() - 1 / 3
    penalty = 30 * 0.1**2 * float(wide.square().mean())
    primal = torch.linalg.solve(x.t() @ x + penalty * torch.eye(40, dtype=torch.float64), x.t() @ y)
    weights, bias = probes.fit_reader(wide, labels, noise=0.1)
    torch.testing.assert_close(weights, primal)
    torch.testing.assert_close(bias, 1 / 3 - wide.mean(0) @ primal)


def test_cross_validation_by_products_equals_cross_validation_by_hand():
    from memsuite.analysis.probes.decoding import _cross_validate

    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(3, (25,), generator=generator)
    means = torch.randn(3, 60, dtype=torch.float64, generator=generator)
    states = 0.25 * means[labels] + torch.randn(25, 60, dtype=torch.float64, generator=generator) + 2.0
    fold, noise = torch.arange(25) % 5, 0.05
    penalty, right = 25 * noise**2 * float(states.square().mean()), 0
    for part in range(5):
        train, held = states[fold != part], states[fold == part]
        share = torch.nn.functional.one_hot(labels[fold != part], 3).double()
        x = train - train.mean(0)
        system = x.t() @ x + penalty * torch.eye(60, dtype=torch.float64)
        weights = torch.linalg.solve(system, x.t() @ (share - share.mean(0)))
        named = ((held - train.mean(0)) @ weights + share.mean(0)).argmax(1)
        right += int((named == labels[fold == part]).sum())
    assert 0 < right < 25
    assert _cross_validate(states, labels.unsqueeze(0), fold, noise).item() == pytest.approx(right / 25)


@pytest.mark.parametrize("name", SCRIPTED)
def test_every_scripted_task_has_items_to_decode(name):
    task = make_task(name, "easy")
    controller = make_controller("pseudo_mamba", input_dim=task.observation_dim, hidden_dim=16)
    for decision in (0, -1):
        found = probes.decode(
            controller, task, decision=decision, every=25, episodes=60, reader=probes.Reader(shuffles=2)
        )
        assert found.steps[0] == 0
        assert found.steps[-1] == task.horizon - 1
        assert found.accuracy.shape == found.shuffled.shape == (len(found.steps),)
    script = probes.draw(task, 8)
    targets, at = probes.question(script, 0)
    for episode in range(8):
        first = int(script.scored[:, episode].nonzero()[0])
        assert (int(at[episode]), int(targets[episode])) == (first, int(script.targets[first, episode]))


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("depth", [1, 2])
def test_states_are_those_of_stepping_for_every_controller(name, depth):
    controller = make_controller(name, input_dim=9, hidden_dim=16, depth=depth, memory_horizon=10)
    x = torch.randn(7, 3, 9)
    state, stepped = controller.init_state(3), []
    with torch.no_grad():
        for step in x:
            _, state = controller.forward_step(step, state)
            stepped.append(torch.cat([probes.states.flatten(state, layer) for layer in range(depth)], 1))
    for every in (1, 3):
        for step, whole in probes.states_over_time(controller, x, every):
            torch.testing.assert_close(whole, stepped[step], rtol=1e-4, atol=1e-4)
    one = [found for _, found in probes.states_over_time(controller, x, layer=-1)]
    assert one[-1].shape[1] == probes.states.flatten(controller.init_state(3), depth - 1).shape[1]


def test_drift_of_a_known_motion():
    class Turning(Memoryless):
        def init_state(self, batch_size, device=None):
            return torch.tensor([[2.0, 0.0]]).repeat(batch_size, 1)

        def forward_step(self, x_BD, state):
            a, b = state.unbind(1)
            return x_BD, torch.stack([0.6 * a - 0.8 * b, 0.8 * a + 0.6 * b], 1)

    found = probes.drift(Turning(3), torch.zeros(4, 5, 3))
    angle = math.acos(0.6)
    torch.testing.assert_close(found.norm, torch.full((4, 5), 2.0))
    torch.testing.assert_close(found.speed[1:], torch.full((3, 5), 4 * math.sin(angle / 2)))
    assert found.speed[0].isnan().all()
    expected = torch.cos(angle * torch.arange(4.0)).unsqueeze(1).expand(4, 5)
    torch.testing.assert_close(found.cosine, expected, rtol=1e-5, atol=1e-6)
    assert probes.drift(Turning(3), torch.zeros(4, 5, 3), since=2).cosine[:2].isnan().all()


def test_a_gradient_reaches_what_is_remembered_and_nothing_else():
    task = make_task("delayed_cue", "easy", horizon=12)
    memoryless = ActorCritic(Memoryless(task.observation_dim), task.num_actions)
    reach = probes.gradient_reach(memoryless, task)
    assert reach[:-1].eq(0).all()
    assert reach[-1] > 0

    class Sum(Memoryless):
        def init_state(self, batch_size, device=None):
            return torch.zeros(batch_size, self.input_dim)

        def forward_step(self, x_BD, state):
            return x_BD + state, x_BD + state

    reach = probes.gradient_reach(ActorCritic(Sum(task.observation_dim), task.num_actions), task)
    torch.testing.assert_close(reach, reach[-1:].expand(12))  # a sum passes the same gradient to every term


def test_a_gradient_is_that_of_the_loss_by_hand():
    task = make_task("copy_memory", "easy")
    model = ActorCritic(make_controller("gru", input_dim=task.observation_dim, hidden_dim=8), task.num_actions).double()
    script = probes.draw(task, 4, seed=5)
    targets, at = probes.question(script, 2)
    norms = []
    for row in range(4):
        x = script.observations[:, row : row + 1].double().requires_grad_()
        is_first = torch.zeros(len(x), 1, dtype=torch.bool)
        is_first[0] = True
        logits = model(x, model.init_state(1), is_first)[0]
        loss = -logits[at[row], 0].log_softmax(-1)[targets[row]]
        norms.append(torch.autograd.grad(loss, x)[0].norm(dim=2).squeeze(1))
    reach = probes.gradient_reach(model, task, episodes=4, decision=2, seed=5)
    torch.testing.assert_close(reach, torch.stack(norms).mean(0))
    assert reach[int(at[0]) + 1 :].eq(0).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_gates_of_the_gru_by_hand(depth):
    controller = make_controller("gru", input_dim=9, hidden_dim=16, depth=depth)
    x = torch.randn(6, 3, 9)
    found = probes.gates(controller, x, layer=0)
    cell, h = probes.layers_of(controller)[0], torch.zeros(3, 16)
    for t, step in enumerate(x):
        r, z, _ = (step @ cell.weight_ih.t() + cell.bias_ih + h @ cell.weight_hh.t() + cell.bias_hh).chunk(3, -1)
        torch.testing.assert_close(found["reset"][t], r.sigmoid())
        torch.testing.assert_close(found["update"][t], z.sigmoid())
        h = torch.gru_cell(step, h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    assert probes.gates(controller, x)["reset"].shape == (6, 3, 16)


@pytest.mark.parametrize("depth", [1, 2])
def test_gates_of_the_lstm_by_hand(depth):
    controller = make_controller("lstm", input_dim=9, hidden_dim=16, depth=depth)
    x = torch.randn(6, 3, 9)
    found = probes.gates(controller, x, layer=0)
    cell, (h, c) = probes.layers_of(controller)[0], torch.zeros(2, 3, 16)
    for t, step in enumerate(x):
        i, f, g, o = (step @ cell.weight_ih.t() + cell.bias_ih + h @ cell.weight_hh.t() + cell.bias_hh).chunk(4, -1)
        for name, gate in (("input", i), ("forget", f), ("output", o)):
            torch.testing.assert_close(found[name][t], gate.sigmoid())
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    assert list(probes.gates(controller, x)) == ["input", "forget", "output"]


@pytest.mark.parametrize("depth", [1, 2])
def test_step_sizes_of_mamba_by_hand(depth):
    controller = make_controller("mamba", input_dim=9, hidden_dim=16, depth=depth, memory_horizon=20)
    x = torch.randn(6, 3, 9)
    found = probes.gates(controller, x, layer=0)
    layer, block = probes.layers_of(controller)[0], controller.blocks[0]
    with torch.no_grad():
        read = block.norm(x @ controller.embed.weight.t()) + block.shift
        u = (read @ layer.in_proj.weight.t())[..., : layer.d_inner]
        padded = torch.nn.functional.pad(u.permute(1, 2, 0), (3, 0))
        u = silu(torch.nn.functional.conv1d(padded, layer.conv1d.weight, layer.conv1d.bias, groups=layer.d_inner))
        delta = (u.permute(2, 0, 1) @ layer.x_proj.weight.t())[..., : layer.dt_rank]
        dt = softplus(delta @ layer.dt_proj.weight.t() + layer.dt_proj.bias)
    torch.testing.assert_close(found["step_size"], dt)
    torch.testing.assert_close(found["decay"], torch.exp(dt[..., None] * -layer.A_log.exp()).flatten(2))
    assert probes.gates(controller, x)["decay"].shape == found["decay"].shape


def test_quantiles_are_over_units_and_episodes():
    values = torch.rand(3, 4, 5)
    expected = torch.quantile(values.flatten(1).double(), torch.tensor([0.1, 0.5, 1.0]).double(), dim=1)
    torch.testing.assert_close(probes.quantiles(values, (0.1, 0.5, 1.0)), expected)


@pytest.mark.parametrize("context", [5, 30])
@pytest.mark.parametrize("layer", [0, 1])
def test_attention_rows_add_up_to_one_and_are_what_the_layer_uses(context, layer):
    controller = make_controller("transformer", input_dim=9, hidden_dim=16, depth=2, context_length=context, chunk=4)
    x = torch.randn(11, 3, 9)
    weights = probes.attention_map(controller, x, layer=layer, episode=1)
    assert weights.shape == (4, 11, 11)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 11))
    assert weights.triu(1).eq(0).all()
    assert weights.tril(-context).eq(0).all()
    its, read = probes.episodes.layer_input(controller, x, layer)
    is_first = probes.episodes.first_steps(x)
    _, values = its.attention(read, is_first)
    attended = (weights @ values[1]).transpose(0, 1).flatten(1)
    features, _ = its.forward_sequence(read, its.init_state(3), is_first)
    torch.testing.assert_close(its.out(its.norm(attended)), features[:, 1])


def test_attention_stays_within_its_episode():
    controller = make_controller("transformer", input_dim=9, hidden_dim=16)
    its = probes.layers_of(controller)[0]
    x, is_first = torch.randn(9, 2, 16), torch.zeros(9, 2, dtype=torch.bool)
    is_first[0], is_first[4, 1] = True, True
    weights, values = its.attention(x, is_first)
    assert weights[1, :, 4:, :4].eq(0).all()
    features, _ = its.forward_sequence(x, its.init_state(2), is_first)
    attended = (weights @ values).permute(2, 0, 1, 3).flatten(2)
    torch.testing.assert_close(its.out(its.norm(attended)), features)


MISTAKES = {
    "is interactive": lambda task, gru: probes.decode(gru, make_task("distractor_nav", "easy")),
    "decision 1 is not there": lambda task, gru: probes.decode(gru, task, decision=1),
    "has no state of its own": lambda task, gru: probes.decode(gru, task, layer=1),
    "the controller has 1": lambda task, gru: probes.gates(gru, torch.zeros(2, 1, 17), layer=1),
    "has no gates": lambda task, gru: probes.gates(Memoryless(3), torch.zeros(2, 1, 3)),
    "does not attend": lambda task, gru: probes.attention_map(gru, torch.zeros(2, 1, 17)),
    "every is 0": lambda task, gru: probes.drift(gru, torch.zeros(2, 1, 17), every=0),
    "8 cues do not fit": lambda task, gru: probes.cue_then_blanks(Memoryless(3), 5),
    "2 to 512 folds": lambda task, gru: probes.decode(gru, task, reader=probes.Reader(folds=1)),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told(text):
    task = make_task("delayed_cue", "easy")
    gru = make_controller("gru", input_dim=task.observation_dim, hidden_dim=4)
    with pytest.raises(UsageError, match=text):
        MISTAKES[text](task, gru)
