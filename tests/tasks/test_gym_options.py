"""Options of Gymnasium tasks: the previous action and reward, the end at a limit, and how images are read."""

from __future__ import annotations

import json

import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

import worlds  # noqa: E402
from test_gym_actions import SPACES, fitted, world  # noqa: E402

import memsuite  # noqa: E402
from memsuite.__main__ import main  # noqa: E402
from memsuite.errors import UsageError  # noqa: E402
from memsuite.module import MemoryPPO  # noqa: E402
from memsuite.rl import begin, collect, evaluate, make_actor_critic, stream  # noqa: E402
from memsuite.rl.policy.encoder import FEATURES  # noqa: E402
from memsuite.runs.ppo import PPOConfig  # noqa: E402
from memsuite.tasks import get_task_config  # noqa: E402
from memsuite.tasks.actions import Continuous, Discrete  # noqa: E402
from memsuite.tasks.gym_task import GymTask  # noqa: E402
from memsuite.trial.task import try_environment  # noqa: E402

ALL = {"discrete": Discrete(3), **SPACES}
EYE = 20 * 24 * 3


@pytest.mark.parametrize("name", ALL)
def test_the_previous_action_and_reward_are_appended(name):
    task, plain, space = world(name, previous_action=True, previous_reward=True), world(name), ALL[name]
    assert task.layout == {"observation": 2, "previous_action": space.width, "previous_reward": 1}
    now = task.reset(4, torch.Generator().manual_seed(0))
    bare = plain.reset(4, torch.Generator().manual_seed(0))
    assert torch.equal(now.observation, torch.cat([bare.observation, torch.zeros(4, space.width + 1)], dim=1))
    firsts = cuts = 0
    for _ in range(30):
        actions = space.random(4) * (3 if isinstance(space, Continuous) else 1)
        now, bare = task.step(actions), plain.step(actions)
        told = torch.cat([shown(space, actions), now.reward.unsqueeze(1)], dim=1)
        assert torch.equal(now.observation, torch.cat([bare.observation, told * ~now.is_first.unsqueeze(1)], dim=1))
        if now.truncated.any():
            expected = torch.cat([bare.final_observation, told], dim=1)
            assert torch.equal(now.final_observation[now.truncated], expected[now.truncated])
        firsts, cuts = firsts + int(now.is_first.sum()), cuts + int(now.truncated.sum())
    assert firsts > cuts > 0


def shown(space, actions):
    """Return an action as a part of an observation, worked out one number at a time."""
    if isinstance(space, Continuous):
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        return torch.minimum(torch.maximum(actions, low), high)
    sizes = [space.n] if isinstance(space, Discrete) else space.nvec
    rows = actions.reshape(len(actions), -1).tolist()
    pairs = [list(zip(row, sizes, strict=True)) for row in rows]
    return torch.tensor([[float(value == number) for value, n in row for number in range(n)] for row in pairs])


def test_a_replaced_action_is_shown_as_it_was_taken():
    task = GymTask("World-v0", env_args={"fault": "mask"}, previous_action=True)
    task.reset(1, torch.Generator().manual_seed(0))
    assert task.step(torch.tensor([2])).observation[0, 2:].tolist() == [1, 0, 0]  # 2 is forbidden at the first step


def test_a_limit_cuts_or_ends():
    actions = torch.zeros(40, 6, dtype=torch.int64)
    cut = GymTask("World-v0", env_args={"length": 99})
    ends = GymTask("World-v0", env_args={"length": 99}, truncation="terminal")
    for task in (cut, ends):
        task.reset(6, torch.Generator().manual_seed(0))
    for action in actions:
        one, other = cut.step(action), ends.step(action)
        assert torch.equal(one.observation, other.observation)
        assert torch.equal(one.truncated, other.terminated)
        assert torch.equal(one.is_first, other.is_first)
        assert not other.truncated.any()
        assert other.final_observation is None
    model = make_actor_critic(ends, "gru", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    torch.nn.init.ones_(model.critic.bias)
    found = {}
    for task in (cut, ends):
        trajectory, _ = collect(task, model, begin(task, model, 3, stream(0, "task")), 9, stream(0, "actions"))
        found[task] = trajectory.next_values[-1]
    assert (found[cut] != 0).all()
    assert (found[ends] == 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"truncation": "cut"}, "no value of truncation for gym:World-v0: 'cut'; .*bootstrap, terminal"),
        ({"image": "crop"}, "no value of image for gym:World-v0: 'crop'; .*convolution, flatten"),
        ({"image": "convolution"}, "image convolution needs an observation of three dimensions"),
        ({"workers": -1}, "workers is -1; it must be a whole number from 0"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"workers": True}, "workers is True"),
        ({"previous_action": 1}, "previous_action is 1; it must be true or false"),
        ({"previous_reward": "yes"}, "previous_reward is 'yes'"),
        ({"previous_actions": True}, "did you mean: previous_action"),
    ],
)
def test_mistakes_in_options_are_named(options, words):
    with pytest.raises(UsageError, match=words):
        get_task_config("gym:World-v0", "easy").make(**options)


@pytest.mark.parametrize(
    ("seen", "image", "start", "shape", "last"),
    [
        ("picture", None, 0, (20, 24, 3), True),
        ("planes", None, 0, (3, 20, 24), False),
        ("dict", None, 2, (20, 24, 3), True),
        ("small", "convolution", 0, (4, 5, 3), True),
    ],
)
def test_images_are_found(seen, image, start, shape, last):
    task = world(seen=seen, image=image)
    (found,) = task.images
    assert (found.start, found.shape, found.channels_last) == (start, shape, last)
    now = task.reset(2, torch.Generator().manual_seed(0)).observation
    flat = world(seen=seen, image="flatten").reset(2, torch.Generator().manual_seed(0)).observation
    scale = torch.ones(now.shape[1])
    if seen != "planes":
        scale[start : start + found.size] = 255
        assert flat.max() > 100
    assert torch.equal(now, flat / scale)


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_named_parts_of_a_dict_are_read(workers):
    """They are the numbers that Gymnasium's own wrapper leaves, whichever process steps the environments."""
    task = world(seen="dict", keys=["z", "body"], workers=workers)
    step = task.reset(3, torch.Generator().manual_seed(0))
    expected = []
    for seed in task._seeds:
        env = gymnasium.wrappers.FilterObservation(gymnasium.make("World-v0", seen="dict"), ["z", "body"])
        expected.append(gymnasium.spaces.flatten(env.observation_space, env.reset(seed=seed)[0]))
    assert task.observation_dim == 5
    assert not task.images
    assert step.observation.tolist() == [row.tolist() for row in expected]
    task.close()


@pytest.mark.parametrize(
    ("seen", "key", "words"), [("dict", "bodi", "did you mean: body"), ("box", "body", "its observations are Box")]
)
def test_a_part_that_does_not_exist_is_named(seen, key, words):
    with pytest.raises(UsageError, match=words):
        world(seen=seen, keys=[key])


def test_a_mask_moves_an_image_and_may_not_cut_it():
    task = world(seen="dict", mask=[0])
    assert task.images[0].start == 1
    now = task.reset(1, torch.Generator().manual_seed(0)).observation
    whole = world(seen="dict").reset(1, torch.Generator().manual_seed(0)).observation
    assert torch.equal(now, whole[:, 1:])
    with pytest.raises(UsageError, match=r"mask \[5\] lies within an image; set image flatten"):
        world(seen="dict", mask=[5])
    assert world(seen="dict", mask=[5], image="flatten").observation_dim == whole.shape[1] - 1


@pytest.mark.parametrize(("seen", "image"), [("small", None), ("picture", "flatten"), ("box", None), ("tuple", None)])
def test_other_observations_are_flattened(seen, image):
    task = world(seen=seen, image=image)
    assert task.images == ()
    model = make_actor_critic(task, "gru", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    assert model.encoder is None


def test_a_flattened_image_is_said_with_the_remedy():
    (note,) = try_environment("task x", world(seen="picture", image="flatten"), torch.device("cpu"))
    assert "1,440 numbers of up to 25" in note
    assert "--task_args.image convolution" in note
    assert not list(try_environment("task x", world(seen="picture"), torch.device("cpu")))
    (note,) = try_environment("task x", world(seen="dict"), torch.device("cpu"))
    assert "5 numbers besides its image of up to" in note


def test_a_run_with_an_image_is_recorded_and_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = (
        "fit --task gym:World-v0 --difficulty easy --num_envs 4 --controller_args.hidden_dim 4 --device cpu --out run"
    )
    line += " --task_args.env_args.seen dict --task_args.previous_action true --steps 144 --evaluation_episodes 4"
    assert main(line.split()) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["encoder"] == f"convolution: 2 stages, {FEATURES} features"
    assert 0 < result["memory_moved"]["encoder"] < 1
    module = memsuite.load("run")
    assert result["parameters"] == sum(parameter.numel() for parameter in module.model.parameters())
    assert module.model.controller.state_floats() == result["state_floats"]
    again = module.evaluate(4, "test")
    assert again["return_mean"] == result["return_mean"]


def test_the_encoder_is_trained_at_the_full_rate():
    module = fitted(small_picture())
    full = [one for group in module.model.parameter_groups(0.1) if group["scale"] == 1.0 for one in group["params"]]
    assert all(any(one is other for other in full) for one in module.model.encoder.parameters())
    start = module.fresh_model()
    for one, other in zip(module.model.encoder.parameters(), start.encoder.parameters(), strict=True):
        assert not torch.equal(one, other)


def small_picture(**settings):
    return MemoryPPO(
        task="gym:World-v0",
        difficulty="easy",
        num_envs=2,
        steps=2 * 9 * 2,
        evaluation_episodes=2,
        task_args={"env_args": {"seen": "picture"}},
        controller_args={"hidden_dim": 4},
        **settings,
    )


def test_a_critic_of_the_observation_cannot_read_images():
    with pytest.raises(UsageError, match="reads numbers, not images: set ppo"):
        small_picture(ppo=PPOConfig(critic="observation"))


def test_the_width_that_matches_a_size_counts_what_the_controller_reads():
    module = MemoryPPO(
        task="gym:World-v0",
        difficulty="easy",
        num_envs=2,
        steps=18,
        task_args={"env_args": {"seen": "picture"}},
        controller_args={"match": "parameters:20000"},
    )
    assert sum(one.numel() for one in module.model.controller.parameters()) == pytest.approx(20_000, rel=0.1)


def test_an_image_with_the_state_of_a_world_is_acted_on():
    """The same observations give the same return whether they are read in a rollout or in an evaluation."""
    task = world(seen="dict", previous_reward=True)
    model = make_actor_critic(task, "lstm", {"hidden_dim": 4}, "memory", stream(0, "weights"))
    found = [evaluate(task, model, 5, stream(0, "test")) for _ in range(2)]
    assert found[0]["return_mean"] == found[1]["return_mean"]
    assert worlds.SEEN["dict"]["eye"].shape == (20, 24, 3)
