"""TorchRL's parts as its tutorials put them together: collector, LSTMModule, GAE, ClipPPOLoss."""

import torch
import torchrl
import work as w
from tensordict.nn import TensorDictModule as Module
from tensordict.nn import TensorDictSequential as Sequential
from torch import nn
from torch.distributions import Categorical
from torchrl.collectors import Collector
from torchrl.envs import Compose, GymWrapper, InitTracker, SerialEnv, TransformedEnv
from torchrl.modules import LSTMModule, ProbabilisticActor, ValueOperator, set_recurrent_mode
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE


def make_modules(work):
    lstm = LSTMModule(input_size=work.inputs, hidden_size=w.WIDTH, in_key="observation", out_key="features")
    policy = Module(nn.Linear(w.WIDTH, work.actions), ["features"], ["logits"])
    nn.init.orthogonal_(policy.module.weight, 0.01)
    nn.init.zeros_(policy.module.bias)
    actor = ProbabilisticActor(
        Sequential(lstm, policy), in_keys=["logits"], distribution_class=Categorical, return_log_prob=True
    )
    critic = ValueOperator(nn.Linear(w.WIDTH, 1), in_keys=["features"])
    return lstm, actor, critic


def update(loss, optimizer, parameters, rows):
    for _ in range(w.EPOCHS):
        for columns in torch.randperm(len(rows)).chunk(w.MINIBATCHES):
            with set_recurrent_mode(True):
                terms = loss(rows[columns])
            total = terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(parameters, w.NORM)
            optimizer.step()


def make_env(work, lstm):
    env = SerialEnv(work.envs, lambda: GymWrapper(work.make_env(), categorical_action_encoding=True))
    return TransformedEnv(env, Compose(InitTracker(), lstm.make_tensordict_primer()))


def train(options):
    """Return the policy and the rates; the LSTM's features are read once for the critic and the actor."""
    lstm, actor, critic = make_modules(options.work)
    env = make_env(options.work, lstm)
    env.set_seed(options.seed)
    frames = options.work.frames
    count = options.steps // frames
    collector = Collector(env, actor, frames_per_batch=frames, total_frames=count * frames)
    whole = Sequential(lstm, critic)
    gae = GAE(gamma=w.DISCOUNT, lmbda=w.LAMBDA, value_network=whole, shifted=True, deactivate_vmap=True)
    loss = ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=w.CLIP,
        entropy_coeff=w.ENTROPY,
        critic_coeff=w.VALUE * 0.5,
        loss_critic_type="l2",
        normalize_advantage=True,
    )
    parameters = list(nn.ModuleList([actor, critic]).parameters())
    optimizer = torch.optim.Adam(parameters, lr=w.RATE, eps=1e-5)
    clock = w.Clock()
    for iteration, rows in enumerate(collector):
        optimizer.param_groups[0]["lr"] = w.RATE * (1 - iteration / count)
        with torch.no_grad(), set_recurrent_mode(True):
            rows = gae(rows)
        update(loss, optimizer, parameters, rows)
    rates = clock.rates(count * frames)
    collector.shutdown()
    return lstm, actor, rates, sum(p.numel() for p in parameters)


def main():
    options = w.options()
    lstm, actor, rates, size = train(options)
    policy = actor[0]
    state = {"h": torch.zeros(w.EPISODES, 1, w.WIDTH), "c": torch.zeros(w.EPISODES, 1, w.WIDTH)}

    @torch.no_grad()
    def act(now, begins):
        # The module's own step: its LSTM for one step, then the policy's map.
        y, (state["h"], state["c"]) = lstm.lstm(
            torch.as_tensor(now)[:, None], tuple(state[k].transpose(0, 1).contiguous() for k in ("h", "c"))
        )
        state["h"], state["c"] = (state[k].transpose(0, 1) for k in ("h", "c"))
        return policy[1].module(y[:, 0]).argmax(-1).numpy()

    w.report("torchrl", torchrl.__version__, size, rates, w.greedy_return(options.work, act, options.seed))


if __name__ == "__main__":
    main()
