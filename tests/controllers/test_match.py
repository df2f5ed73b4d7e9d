"""Models of one size, by parameters or by state, and what each can express."""

import json

import pytest
import torch
from one_line import answer_in

from memsuite.__main__ import main
from memsuite.controllers import CONTROLLERS, LAYERS, make_controller
from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.about.match import KINDS, TOLERANCE, matched_width, nearest_of, read_match
from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.runs import RunConfig

SLOW_TO_WIDEN = {"gru", "lstm", "slstm", "elman", "s5"}  # initialised by decompositions of a matrix of this width
OF_ONE_STATE = {"trace", "ffm", "shm"}


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_width_is_found_that_comes_near(name, kind):
    match = (kind, 60_000 if kind == "parameters" else 512 if name in SLOW_TO_WIDEN else 4096)
    if name in OF_ONE_STATE and match[0] == "state":
        with pytest.raises(UsageError, match="does not depend on hidden_dim"):
            matched_width(name, 9, match, {})
        return
    width, found = nearest_of(name, 9, match, {"memory_horizon": 20})
    built = make_controller(name, input_dim=9, hidden_dim=width, memory_horizon=20)
    assert KINDS[match[0]](built) == found
    assert abs(found - match[1]) <= TOLERANCE * match[1]


def test_a_size_that_no_width_has_is_refused():
    with pytest.raises(UsageError, match="no width of transformer has about 3,000 numbers in its state"):
        matched_width("transformer", 9, ("state", 3000), {"memory_horizon": 2000})


@pytest.mark.parametrize(
    "given", ["parameters", "parameters:many", "params:3", {"state": 0}, {"state": 1, "parameters": 2}, 7]
)
def test_what_is_no_match_is_refused(given):
    with pytest.raises(UsageError, match="name one of parameters, state"):
        read_match(given)


def test_a_run_stores_the_width_that_its_match_stands_for():
    settings = {"task": "n_back", "difficulty": "easy", "controller": "lru"}
    module = MemoryPPO(RunConfig(**settings, controller_args={"match": {"parameters": 20_000}}))
    stored = module.config.controller_args
    assert "match" not in stored
    same = MemoryPPO(RunConfig(**settings, controller_args={"hidden_dim": stored["hidden_dim"]}))
    assert same.config == module.config
    found = KINDS["parameters"](module.model.controller)
    assert abs(found - 20_000) < 2000


def test_a_width_beside_a_match_is_refused():
    with pytest.raises(UsageError, match="both hidden_dim and match"):
        MemoryPPO(RunConfig(controller_args={"match": {"state": 64}, "hidden_dim": 3}))


def test_the_command_line_takes_a_match(tmp_path):
    words = "fit --task n_back --difficulty easy --controller mingru --steps 200 --num_envs 2 --evaluation_episodes 4"
    words += " --model.ppo.draws 1 --device cpu"
    status = main([*words.split(), "--controller_args.match", '{"state": 36}', "--out", str(tmp_path / "run")])
    assert status == 0
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["config"]["controller_args"]["hidden_dim"] == stored["state_floats"] == 36


def test_the_width_that_matches_is_that_of_the_horizon_given(capsys):
    """A window is as long as the horizon, so its state's size is not that of the default window."""
    given = ["--match", "state:4096", "--memory_horizon", "10", "--horizons", "none", "--json"]
    assert main(["controllers", "transformer", *given]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["state_floats"] == pytest.approx(4096, rel=0.1)


def test_the_table_shows_the_width_that_matches(capsys):
    assert main(["controllers", "gru", "trace", "--match", "state:64", "--horizons", "none", "--json"]) == 0
    gru, trace = json.loads(capsys.readouterr().out)
    assert (gru["hidden_dim"], gru["state_floats"]) == (64, 64)
    assert trace["hidden_dim"] is None
    assert main(["controllers", "gru", "trace", "--match", "state:64", "--horizons", "none"]) == 0
    assert "at 64 state" in (out := capsys.readouterr().out)
    assert "vector, by input, signs, recurrent" in out
    assert "more than a tenth" not in out


def test_a_width_that_does_not_come_near_is_marked(capsys):
    """No GRU has as few parameters, so `fit` and `suite` refuse the size that the table shows."""
    words = ["controllers", "gru", "trace", "--match", "parameters:6", "--horizons", "none"]
    assert main([*words, "--json"]) == 0
    assert [row["near"] for row in json.loads(capsys.readouterr().out)] == [False, False]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "4 *" in out
    assert "more than a tenth away" in out


def test_a_wrong_match_is_told_in_one_line(capsys, tmp_path):
    answer = answer_in(tmp_path, lambda: capsys.readouterr().err)
    assert "name one of parameters, state" in answer("controllers", "gru", "--match", "size:3")


def test_every_model_says_what_it_can_express():
    assert all(isinstance(layer.abilities, Abilities) for layer in LAYERS.values())
    assert Abilities("matrix", sign_changing=True).in_words() == "matrix, signs"


def step_of(layer, x, begun, names):
    """Return the next state as a function of the state, both flat; parts without a name are those of a beginning."""
    leaves = [begun] if names == [""] else [begun[name] for name in names]

    def step(flat):
        sizes = [leaf.numel() for leaf in leaves]
        parts = [part.view_as(leaf) for part, leaf in zip(flat.split(sizes), leaves, strict=True)]
        if isinstance(begun, dict):
            state = {**begun, **dict(zip(names, parts, strict=True))}
        else:
            state = parts[0] if names == [""] else tuple(parts)
        _, after = layer.forward_step(x, state)
        if (
            isinstance(begun, dict) and "angle" in begun
        ):  # Mamba-3 holds its state as it was before all turns, and turns what reads and writes it
            rows = after["ssm"].permute(3, 0, 1, 2)
            angle = after["angle"].expand(*rows.shape[:-1], -1)
            after["ssm"] = layer._turned(rows, angle.cos(), -angle.sin()).permute(1, 2, 3, 0)
        return torch.cat([leaf.flatten() for leaf in ([after] if names == [""] else [after[name] for name in names])])

    return step


@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if layer.abilities.state != "window"])
def test_signs_change_where_it_is_said(name):
    """The eigenvalues of a step, by its derivative, at random weights, states and inputs."""
    torch.manual_seed(0)
    small = {"d_state": 4} if name in ("mamba", "mamba2", "mamba3") else {}  # the derivative is a row for each number
    layer = make_controller(name, input_dim=8, hidden_dim=8, **small).layers[0].double()
    begun, negative = layer.init_state(1), False
    if isinstance(begun, dict):
        names = [key for key in begun if key not in ("position", "m")]
        names = ["ssm"] if "angle" in begun else names
    else:
        names = list(range(len(begun))) if isinstance(begun, tuple) else [""]
    size = sum(leaf.numel() for leaf in ([begun] if names == [""] else [begun[key] for key in names]))
    for _ in range(20):
        for weight in layer.parameters():
            torch.nn.init.normal_(weight, std=0.7)
        flat = torch.randn(size, dtype=torch.float64)
        if name == "slstm":
            flat[16:24] = 1 + flat[16:24].abs()  # the normaliser, which is never negative
        run = step_of(layer, torch.randn(1, 8, dtype=torch.float64), begun, names)
        values = torch.linalg.eigvals(torch.autograd.functional.jacobian(run, flat))
        negative |= bool(((values.real < -1e-6) | (values.imag.abs() > 1e-6)).any())
    assert negative == LAYERS[name].abilities.sign_changing
