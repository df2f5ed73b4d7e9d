"""sb3-contrib's RecurrentPPO with one LSTM for actor and critic: ``pip install sb3-contrib``."""

import sb3_contrib
import work as w
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv


def acting(model):
    """Return the greedy policy of an agent, which carries the agent's state from call to call."""
    states = [None]

    def act(now, begins):
        actions, states[0] = model.predict(now, states[0], begins, deterministic=True)
        return actions

    return act


def main():
    options = w.options()
    work = options.work
    policy = {
        "lstm_hidden_size": w.WIDTH,
        "n_lstm_layers": 1,
        "net_arch": [],
        "shared_lstm": True,
        "enable_critic_lstm": False,
    }
    model = RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([work.make_env] * work.envs),
        n_steps=work.rollout,
        batch_size=work.frames // w.MINIBATCHES,
        n_epochs=w.EPOCHS,
        gamma=w.DISCOUNT,
        gae_lambda=w.LAMBDA,
        clip_range=w.CLIP,
        ent_coef=w.ENTROPY,
        vf_coef=w.VALUE,
        max_grad_norm=w.NORM,
        learning_rate=lambda left: w.RATE * left,
        seed=options.seed,
        policy_kwargs=policy,
        device="cpu",
    )
    clock = w.Clock()
    model.learn(options.steps // work.frames * work.frames)
    rates = clock.rates(model.num_timesteps)
    size = sum(p.numel() for p in model.policy.parameters())
    w.report("sb3-contrib", sb3_contrib.__version__, size, rates, w.greedy_return(work, acting(model), options.seed))


if __name__ == "__main__":
    main()
