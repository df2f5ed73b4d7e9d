"""PPO with an LSTM in a single file, as in CleanRL: ``SyncVectorEnv``, ``nn.LSTM`` step by step with masked states."""

import gymnasium
import torch
import work as w
from gymnasium.vector import AutoresetMode
from torch import nn
from torch.distributions import Categorical


def linear(inputs, outputs, gain):
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Agent(nn.Module):
    """An LSTM with two heads."""

    def __init__(self, work):
        super().__init__()
        self.lstm = nn.LSTM(work.inputs, w.WIDTH)
        for name, parameter in self.lstm.named_parameters():
            nn.init.zeros_(parameter) if "bias" in name else nn.init.orthogonal_(parameter)
        self.actor, self.critic = linear(w.WIDTH, work.actions, 0.01), linear(w.WIDTH, 1, 1.0)

    def features(self, x, state, begins):
        made = []
        for now, begin in zip(x, begins, strict=True):
            keep = (1 - begin).view(1, -1, 1)
            y, state = self.lstm(now[None], (keep * state[0], keep * state[1]))
            made.append(y)
        return torch.cat(made), state

    def forward(self, x, state, begins):
        features, state = self.features(x, state, begins)
        return Categorical(logits=self.actor(features)), self.critic(features).squeeze(-1), state


def zeros(batch):
    return torch.zeros(1, batch, w.WIDTH), torch.zeros(1, batch, w.WIDTH)


class Loop:
    """Rollouts and updates in turn."""

    def __init__(self, options):
        self.work = options.work
        makers = [self.work.make_env] * self.work.envs
        self.envs = gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        self.agent = Agent(self.work)
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=w.RATE, eps=1e-5)
        self.now = torch.as_tensor(self.envs.reset(seed=options.seed)[0])
        self.begins, self.state = torch.ones(self.work.envs), zeros(self.work.envs)

    @torch.no_grad()
    def rollout(self):
        shape = self.work.rollout, self.work.envs
        x, actions = torch.zeros(*shape, self.work.inputs), torch.zeros(shape, dtype=torch.long)
        log_probs, rewards, begins, values = (torch.zeros(shape) for _ in range(4))
        for t in range(self.work.rollout):
            x[t], begins[t] = self.now, self.begins
            policy, value, self.state = self.agent(self.now[None], self.state, self.begins[None])
            action = policy.sample()
            actions[t], log_probs[t], values[t] = action[0], policy.log_prob(action)[0], value[0]
            now, reward, terminated, truncated, _ = self.envs.step(action[0].numpy())
            rewards[t] = torch.as_tensor(reward, dtype=torch.float32)
            self.now = torch.as_tensor(now)
            self.begins = torch.as_tensor(terminated | truncated, dtype=torch.float32)
        after = self.agent(self.now[None], self.state, self.begins[None])[1][0]
        advantages, gae = torch.zeros(shape), 0.0
        for t in reversed(range(self.work.rollout)):
            goes_on = 1 - (self.begins if t == self.work.rollout - 1 else begins[t + 1])
            following = after if t == self.work.rollout - 1 else values[t + 1]
            gae = rewards[t] + w.DISCOUNT * goes_on * following - values[t] + w.DISCOUNT * w.LAMBDA * goes_on * gae
            advantages[t] = gae
        return x, begins, actions, log_probs, advantages, advantages + values

    def update(self, state, rows):
        for _ in range(w.EPOCHS):
            for columns in torch.randperm(self.work.envs).chunk(w.MINIBATCHES):
                x, begins, actions, old, advantages, returns = (row[:, columns] for row in rows)
                policy, values, _ = self.agent(x, tuple(s[:, columns] for s in state), begins)
                ratio = (policy.log_prob(actions) - old).exp()
                advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
                clipped = ratio.clamp(1 - w.CLIP, 1 + w.CLIP)
                loss = torch.max(-advantages * ratio, -advantages * clipped).mean()
                loss = loss - w.ENTROPY * policy.entropy().mean() + w.VALUE * 0.5 * ((values - returns) ** 2).mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), w.NORM)
                self.optimizer.step()

    def train(self, steps):
        count = steps // self.work.frames
        for iteration in range(count):
            self.optimizer.param_groups[0]["lr"] = w.RATE * (1 - iteration / count)
            state = tuple(s.clone() for s in self.state)
            self.update(state, self.rollout())
        return count * self.work.frames


def main():
    options = w.options()
    loop, clock = Loop(options), w.Clock()
    rates = clock.rates(loop.train(options.steps))
    states = [zeros(w.EPISODES)]

    @torch.no_grad()
    def act(now, begins):
        begins = torch.as_tensor(begins, dtype=torch.float32)
        policy, _, states[0] = loop.agent(torch.as_tensor(now)[None], states[0], begins[None])
        return policy.logits[0].argmax(-1).numpy()

    size = sum(p.numel() for p in loop.agent.parameters())
    w.report("cleanrl-style", torch.__version__, size, rates, w.greedy_return(options.work, act, options.seed))


if __name__ == "__main__":
    main()
