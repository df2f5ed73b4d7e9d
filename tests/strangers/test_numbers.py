"""Intervals that are not known are not made up, and the spread of large returns is not lost in their size."""

import json
import math

import pytest
import torch

from memsuite.__main__ import main
from memsuite.launch.messages import interval_of
from memsuite.metrics import EpisodeReturn
from memsuite.suite.view import outcome


@pytest.mark.parametrize("size", [0.0, 1e8, -1e8, 1e12])
@pytest.mark.parametrize("batches", [[64], [1, 2, 61], [32, 32]])
def test_the_spread_of_large_returns(size, batches):
    returns = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric = EpisodeReturn()
    for batch in torch.split(size + returns, batches):
        metric.update(batch)
    found = metric.compute()
    half = 1.998341 * float(returns.std()) / 8  # the 0.975 quantile of Student's t with 63 degrees of freedom
    assert found["return_high"] - found["return_mean"] == pytest.approx(half, rel=1e-3)
    assert found["return_mean"] == pytest.approx(size + float(returns.mean()), abs=1e-3)
    assert found["episodes"] == 64


def test_of_one_episode_the_interval_is_unknown():
    metric = EpisodeReturn()
    metric.update(torch.tensor([5.0]))
    found = metric.compute()
    assert found["return_mean"] == 5.0
    assert math.isnan(found["return_low"])
    assert math.isnan(found["return_high"])


def test_it_is_null_in_json_and_unknown_in_words(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    line = "fit --task gym:CartPole-v1 --difficulty easy --num_envs 2 --steps 64 --model.ppo.rollout_length 16 --out x"
    more = "--device cpu --evaluation_episodes 1 --controller_args.hidden_dim 4"
    assert main([*line.split(), *more.split()]) == 0
    assert "95% interval unknown, 1 episode)" in capsys.readouterr().out
    result = json.loads((tmp_path / "x" / "result.json").read_text())
    assert (result["return_low"], result["return_high"]) == (None, None)
    assert result["return_mean"] >= 1
    assert "interval unknown" in outcome(result)
    assert main(["test", "--ckpt_path", "x"]) == 0
    assert "95% interval unknown, 1 episodes" in capsys.readouterr().out
    assert main(["compare", "--results", "x"]) == 0


@pytest.mark.parametrize(("low", "high"), [(None, None), (math.nan, math.nan)])
def test_the_words(low, high):
    assert interval_of(low, high, 1) == "95% interval unknown"
    assert interval_of(1.0, 2.0, 1) == "95% interval 1.0 to 2.0"
