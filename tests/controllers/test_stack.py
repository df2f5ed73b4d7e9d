"""A stack is made from its layer: it has the same arguments and weight names, and any user's class can be a layer."""

import inspect
import pickle

import pytest
import torch

import memsuite.controllers
from memsuite.controllers import CONTROLLERS, LAYERS, Controller, Stack, make_controller, stacked
from memsuite.controllers.base import Placement
from memsuite.errors import UsageError

SHARED = ["input_dim", "hidden_dim", "depth", "memory_horizon", "mlp_ratio"]


class Own(Controller):
    """A user's layer, with its own default width if ``hidden_dim`` is not given."""

    def __init__(self, input_dim, hidden_dim=24, memory_horizon=None, offset=0.0):
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.memory_horizon, self.offset = memory_horizon, offset
        self.map = torch.nn.Linear(input_dim, hidden_dim)

    def init_state(self, batch_size, device=None):
        return torch.zeros(batch_size, 1)

    def forward_step(self, x_BD, state):
        return self.map(x_BD) + self.offset, state

    def reset_mask(self, state, is_first_B):
        return state


class OwnWidth(Own):
    """A layer that sets its own width: its features are as wide as its input, or twice as wide."""

    def __init__(self, input_dim, times=1):
        super().__init__(input_dim, times * input_dim)


class OwnDepth(Own):
    """A user's class that builds its layers itself."""

    def __init__(self, input_dim, depth=1):
        super().__init__(input_dim)
        self.depth = depth


class Embedded(OwnWidth):
    """A layer that is in a residual block from the first layer on."""

    def __init__(self, input_dim):
        super().__init__(input_dim)

    @classmethod
    def placement(cls, **arguments):
        return Placement(embed=True, shift=0.1, mlp_ratio=0.0)


def make(cls, **arguments):
    return make_controller(f"{__name__}.{cls.__name__}", input_dim=5, **arguments)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_model_has_the_arguments_of_a_stack_and_of_its_layer(name):
    cls, layer = CONTROLLERS[name], LAYERS[name]
    assert cls is stacked(layer)
    parameters, own = inspect.signature(cls).parameters, inspect.signature(layer).parameters
    assert list(parameters)[:5] == SHARED
    assert list(parameters)[5:] == [argument for argument in own if argument not in SHARED]
    for argument, parameter in list(parameters.items())[1:]:
        assert parameter.default is not parameter.empty, argument
        assert isinstance(parameter.annotation, str), argument
        if argument in own and argument != "hidden_dim":
            assert (parameter.default, parameter.annotation) == (own[argument].default, own[argument].annotation)
        assert f"\n    {argument}: " in cls.__doc__


@pytest.mark.parametrize("name", ["GRU", "PseudoMamba", "Mamba2"])
def test_a_public_name_is_an_ordinary_class(name):
    cls = getattr(memsuite.controllers, name)
    model = cls(5, 8, 2, memory_horizon=20)
    assert isinstance(model, Stack)
    assert type(pickle.loads(pickle.dumps(model))) is cls
    assert repr(model).startswith(f"{name}(")
    with pytest.raises(TypeError, match="nonsense"):
        cls(5, nonsense=3)


def test_a_subclass_has_the_signature_of_its_own_constructor():
    class Narrow(memsuite.controllers.GRU):
        def __init__(self, input_dim):
            super().__init__(input_dim, hidden_dim=4)

    assert list(inspect.signature(Narrow).parameters) == ["input_dim"]
    assert Narrow(3).feature_dim == 4


def test_names_of_weights_are_those_of_old_checkpoints():
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    block = [*(f"blocks.1.layer.{name}" for name in names), "blocks.1.norm.weight"]
    block += [f"blocks.1.mlp.{name}.weight" for name in ("0", "1.up", "1.down")]
    model = make_controller("gru", input_dim=5, hidden_dim=8, depth=2)
    assert list(model.state_dict()) == [*(f"blocks.0.layer.{name}" for name in names), *block]
    mamba = list(make_controller("mamba", input_dim=5, hidden_dim=16, depth=1).state_dict())
    assert (mamba[0], mamba[1], mamba[-1]) == ("embed.weight", "blocks.0.shift", "blocks.0.norm.weight")


def test_depth_one_of_a_users_layer_is_the_class_itself():
    for model in (make(Own), make(Own, depth=1), make(Own, depth=1, mlp_ratio=3.0)):
        assert type(model) is Own
    assert make(OwnDepth, depth=3).depth == 3


def test_a_users_layer_is_stacked_beyond_depth_one():
    model = make(Own, depth=3, hidden_dim=16, memory_horizon=70, offset=0.5, mlp_ratio=1.0)
    assert [type(layer) for layer in model.layers] == [Own] * 3
    assert [(layer.input_dim, layer.feature_dim) for layer in model.layers] == [(5, 16), (16, 16), (16, 16)]
    assert [(layer.memory_horizon, layer.offset) for layer in model.layers] == [(70, 0.5)] * 3
    assert [block.mlp[1].down.in_features for block in list(model.blocks)[1:]] == [16, 16]
    assert make(Own, depth=2).feature_dim == 24  # the layer's own default


def test_a_built_in_layer_named_by_its_path_stacks_as_the_built_in_model():
    torch.manual_seed(0)
    one = make_controller("gru", input_dim=5, hidden_dim=8, depth=2, memory_horizon=50, gain=1.1)
    torch.manual_seed(0)
    path = "memsuite.controllers.gru.GRULayer"
    other = make_controller(path, input_dim=5, hidden_dim=8, depth=2, memory_horizon=50, gain=1.1)
    weights = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    assert all(name == its and torch.equal(weight, same) for (name, weight), (its, same) in weights)


def test_a_layer_without_hidden_dim_sets_the_width():
    assert make(OwnWidth, depth=2).feature_dim == 5
    assert "hidden_dim" not in inspect.signature(stacked(OwnWidth)).parameters
    with pytest.raises(UsageError, match="as wide as"):
        make(OwnWidth, depth=2, times=2)


def test_a_users_layer_may_ask_for_an_embedding():
    model = stacked(Embedded)(5, hidden_dim=6)
    assert model.embed.weight.shape == (6, 5)
    assert [block.mlp for block in model.blocks] == [None]
    assert list(model.recurrent_parameters()) == [model.blocks[0].shift]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 0}, "depth is 0; the least is 1"),
        ({"depth": 1.5}, "it must be a whole number"),
        ({"depth": 2, "mlp_ratio": -1}, "mlp_ratio is -1; the least is 0"),
        ({"dept": 2}, "did you mean: depth"),
        ({"depth": 2, "ofset": 2}, "did you mean: offset"),
    ],
)
def test_mistakes_are_named(arguments, words):
    with pytest.raises(UsageError, match=words):
        make(Own, **arguments)


def test_a_layer_with_a_stacks_argument_is_refused():
    with pytest.raises(UsageError, match="argument depth of its own"):
        stacked(OwnDepth)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_dim": 0}, "input_dim is 0"),
        ({"input_dim": -3}, "input_dim is -3"),
        ({"input_dim": 3, "r_min": 2.0}, "r_min is 2.0"),
        ({"input_dim": 3, "r_min": 0.99, "r_max": 0.5}, "r_max 0.5"),
    ],
)
def test_what_no_controller_can_have_is_named(arguments, words):
    with pytest.raises(UsageError, match=words):
        make_controller("lru", **arguments)
