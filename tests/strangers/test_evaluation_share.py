"""What evaluation of Gymnasium environments costs by default, and that it ends with the last of its episodes."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from memsuite.__main__ import main
from memsuite.controllers import make_controller
from memsuite.module import MemoryPPO
from memsuite.rl import evaluate, stream
from memsuite.runs.recipes import EVALUATION_SHARE, usual_episodes, usual_evaluations
from memsuite.tasks.gym_task import GymTask
from memsuite.trial.task import try_environment

STEPS = {"taken": 0}


class Short(gymnasium.Env):
    """Ends after a few steps, though its limit is far away; counts the steps of all its copies."""

    def __init__(self, most: int = 8, wide: bool = False) -> None:
        shape, high = ((40, 40), 255.0) if wide else ((3,), 1.0)
        self.observation_space = gymnasium.spaces.Box(0, high, shape, np.float32)
        self.action_space, self.most, self.high = gymnasium.spaces.Discrete(2), most, high

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, self.most + 1))
        return self._seen(), {}

    def _seen(self):
        return (self.np_random.uniform(0, self.high, self.observation_space.shape)).astype(np.float32)

    def step(self, action):
        STEPS["taken"] += 1
        self.left -= 1
        return self._seen(), 1.0 + float(action), self.left == 0, False, {}


@pytest.fixture(autouse=True)
def registered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gymnasium.register("Short-v0", entry_point=Short, max_episode_steps=400)
    yield
    del gymnasium.registry["Short-v0"]


@pytest.mark.parametrize("steps", [2_000, 16_000, 400_000, 10**7])
@pytest.mark.parametrize("horizon", [10, 500])
def test_the_steps_of_evaluation_are_a_fifth_at_most(steps, horizon):
    episodes = usual_episodes("gym:CartPole-v1", steps, horizon)
    number = usual_evaluations("gym:CartPole-v1", steps, horizon, episodes)
    spent = (episodes + number * max(1, episodes // 4)) * horizon
    least = 2 * horizon  # one episode on the way, and one at the end
    assert spent <= max(least, EVALUATION_SHARE * steps)
    assert 1 <= episodes <= 1024
    assert 1 <= number <= 20
    if steps == 10**7 and horizon == 10:
        assert (episodes, number) == (1024, 20)


def test_a_memsuite_task_is_evaluated_as_ever():
    assert usual_episodes("delayed_cue", 6_400, 200) == 1024
    assert usual_evaluations("delayed_cue", 6_400, 200, 1024) == 20
    assert MemoryPPO(difficulty="easy", num_envs=32, steps=1_600).config.evaluation_episodes == 1024


def test_evaluation_ends_with_its_last_episode_and_counts_the_same():
    task = GymTask("Short-v0")
    module = MemoryPPO(task="gym:Short-v0", num_envs=4, steps=1_600, controller_args={"hidden_dim": 4})
    STEPS["taken"] = 0
    found = evaluate(task, module.model, 64, stream(0, "test"))
    assert found["episodes"] == 64
    assert STEPS["taken"] == 64 * 32  # one block, of 400 steps that the limit allows
    assert found["return_mean"] == pytest.approx(_by_hand(module, 64))


def _by_hand(module, episodes: int) -> float:
    """Play whole episodes one after the other, from the same seeds."""
    generator, returns, model = stream(0, "test"), [], module.model
    env = Short()
    for _ in range(episodes):
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        seen, _ = env.reset(seed=seed)
        state, total, over, first = model.init_state(1, torch.device("cpu")), 0.0, False, True
        while not over:
            with torch.no_grad():
                logits, _, state = model.step(torch.as_tensor(seen)[None], state, torch.tensor([first]))
            seen, reward, over, _, _ = env.step(int(logits.argmax()))
            total, first = total + reward, False
        returns.append(total)
    return sum(returns) / len(returns)


def test_the_summary_and_the_result_say_what_evaluation_took(capfd):
    line = "fit --task gym:Short-v0 --num_envs 4 --steps 16000 --controller_args.hidden_dim 4 --device cpu --out x"
    assert main(line.split()) == 0
    said = capfd.readouterr().out
    result = json.loads(Path("x/result.json").read_text())
    assert f"in {result['evaluation_share']:.0%} of the time that training took; " in said
    assert 0 < result["evaluation_share"] < 0.2
    assert result["config"]["evaluation_episodes"] == result["episodes_evaluated"] == 2


def test_an_argument_of_an_environment_can_be_typed_with_dots(capfd):
    line = "fit --task gym:Short-v0 --num_envs 4 --steps 1600 --controller_args.hidden_dim 4 --device cpu --out x"
    assert main([*line.split(), "--task_args.env_args.most", "3"]) == 0
    assert json.loads(Path("x/result.json").read_text())["config"]["task_args"]["env_args"] == {"most": 3}
    assert main([*line.split(), "--task_args.env_args", "5", "--task_args.env_args.most", "3", "--overwrite"]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_wide_and_large_observations_are_named():
    (note,) = try_environment("task x", GymTask("Short-v0", env_args={"wide": True}), torch.device("cpu"))
    assert "1,600 numbers of up to 25" in note
    assert not list(try_environment("task x", GymTask("Short-v0"), torch.device("cpu")))


class Unflat(gymnasium.Space):
    """A space of somebody's own, as MiniGrid has for its missions."""


@pytest.mark.parametrize(
    ("name", "space", "words"),
    [
        ("action_space", gymnasium.spaces.Box(0, 5, (2,), int), "gymnasium.wrappers.TransformAction"),
        ("action_space", gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)]), "gymnasium.wrappers.TransformAction"),
        ("observation_space", gymnasium.spaces.Dict(mission=Unflat()), "--task_args.keys"),
    ],
)
def test_spaces_that_are_not_supported_are_one_line_with_a_remedy(name, space, words, monkeypatch, capfd):
    begin = Short.__init__
    monkeypatch.setattr(Short, "__init__", lambda self: (begin(self), setattr(self, name, space))[0])
    assert main(["fit", "--task", "gym:Short-v0", "--device", "cpu", "--out", "x"]) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1
    assert words in said


def test_too_few_steps_name_what_to_lower(capfd):
    assert main(["fit", "--task", "gym:Short-v0", "--steps", "100", "--device", "cpu", "--out", "x"]) == 2
    said = capfd.readouterr().err
    assert "the least is 25600; or lower num_envs, or ppo.rollout_length" in said


def test_a_model_without_a_docstring_is_measured(capfd):
    assert make_controller("gru", input_dim=9, hidden_dim=4)
    Path("plain_model.py").write_text("from memsuite.controllers import GRU\n\n\nclass Plain(GRU):\n    pass\n")
    assert main(["controllers", "plain_model.Plain", "--horizons", "10", "--hidden_dim", "8"]) == 0
    assert "plain_model.Plain" in capfd.readouterr().out
