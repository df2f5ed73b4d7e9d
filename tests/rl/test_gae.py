"""GAE against a brute-force computation on unpacked episodes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from memsuite.rl import gae


def brute_force(rewards, values, next_values, ended, discount, gae_lambda):
    """Sum the discounted temporal differences of each step up to the end of its own episode."""
    steps, batch = rewards.shape
    advantages = torch.zeros_like(rewards)
    for b in range(batch):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                advantages[t, b] += weight * (rewards[k, b] + discount * next_values[k, b] - values[k, b])
                weight *= discount * gae_lambda
                if ended[k, b]:
                    break
    return advantages


@given(
    steps=st.integers(1, 9),
    batch=st.integers(1, 3),
    seed=st.integers(0, 10**6),
    discount=st.sampled_from([0.0, 0.9, 0.99, 1.0]),
    gae_lambda=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_equals_the_brute_force(steps, batch, seed, discount, gae_lambda):
    torch.manual_seed(seed)
    rewards, values, next_values = torch.randn(3, steps, batch, dtype=torch.float64)
    ended = torch.rand(steps, batch) < 0.3
    advantages, returns = gae(rewards, values, next_values, ended, discount, gae_lambda)
    expected = brute_force(rewards, values, next_values, ended, discount, gae_lambda)
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(returns, expected + values, rtol=0, atol=1e-12)
