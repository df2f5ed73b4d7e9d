"""A mistake, in a file or on the command line, gives a one-line answer with status 2, and leaves no files behind."""

import shlex

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_line import answer_in

FILES = {
    "empty": b"",
    "null": b"null\n",
    "words": b"just words\n",
    "number": b"5\n",
    "binary": bytes(range(256)),
    "latin": "task: d\xe9lay".encode("latin-1"),
    "utf16": b"\xff\xfe\x00",
    "twice": b"seed: 1\nseed: 2\n",
    "twice_below": b"model: {ppo: {clip: 0.1, clip: 0.2}}\n",
    "documents": b"seed: 1\n---\nseed: 2\n",
    "tab": b"model:\n\tppo: {}\n",
    "undefined": b"task: *nowhere\n",
    "cycle": b"a: &a [*a]\n",
    "code": b'task: !!python/object/apply:os.system ["true"]\n',
    "number_as_key": b"1: 2\n",
    "null_model": b"model: null\n",
    "text_model": b"model: gru\n",
    "class_model": b"model: {class_path: os.system}\n",
    "list_ppo": b"model: {ppo: [1]}\n",
    "null_ppo": b"model: {ppo: null}\n",
    "deep": b"model: {ppo: {epochs: {a: 1}}}\n",
    "number_trainer": b"trainer: 3\n",
    "unknown_below": b"trainer: {foo: 1}\n",
    "nan": b"model: {ppo: {clip: .nan}}\n",
    "list_args": b"controller_args: [1, 2]\n",
    "null_width": b"controller_args: {hidden_dim: null}\n",
    "text_steps": b"steps: many\n",
    "list_seed": b"seed: [1]\n",
    "true_envs": b"num_envs: true\n",
    "half_envs": b"num_envs: 2.5\n",
    "nul": b'task: "a\\0b"\n',
    "ckpt": b"ckpt_path: last\n",
}
# The words after `memsuite`, and the words that the answer must contain.
LINES = {
    "fit --config folder": "cannot read",
    "fit --config": "expected one argument",
    "fit --task": "expected one argument",
    "fit --horizon 0": "horizon",
    "fit --horizon -3": "horizon",
    "fit --horizon 1e-3": "horizon",
    "fit --horizon nan": "horizon",
    "fit --horizon 99999999999999999999": "horizon: 99999999999999999999 is above 9223372036854775807",
    "fit gru": "no option stands before 'gru'; name it",
    "fit --seed x": "seed",
    "fit --seed 1.5": "seed",
    "fit --seed -1": "seed is -1",
    "fit --seed 99999999999999999999999": "seed",
    "fit --num_envs 1.5": "num_envs",
    "fit --num_envs nan": "num_envs",
    "fit --num_envs 100000000000": "fewer environments",
    "fit --steps inf": "steps",
    "fit --steps 0": "above 0",
    "fit --evaluation_episodes 0": "above 0",
    "fit --evaluate_every 0": "above 0",
    "fit --checkpoint_every -1": "above 0",
    "fit --model.ppo.learning_rate nan": "learning_rate",
    "fit --model.ppo.learning_rate inf": "learning_rate",
    "fit --model.ppo.learning_rate .inf": "learning_rate is inf; it must be finite and above 0",
    "fit --model.ppo.learning_rate -1": "above 0",
    "fit --model.ppo.learning_rate fast": "learning_rate",
    "fit --model.ppo.clip nan": "clip",
    "fit --model.ppo.discount nan": "discount",
    "fit --model.ppo.discount -0.1": "between 0 and 1",
    "fit --model.ppo.gae_lambda 1.01": "between 0 and 1",
    "fit --model.ppo.minibatches 0": "at least 1",
    "fit --model.ppo.minibatches 65": "num_envs = 2048 / 32 draws",
    "fit --model.ppo.critic memry": "critic",
    "fit --model.ppo.adam_beta1 1": "below 1",
    "fit --model.ppo.entropy_coefficient -1": "at least 0",
    "fit --model.ppo.reward_scale inf": "reward_scale",
    "fit --model.ppo.max_skipped_updates 0": "at least 1",
    "fit --model.ppo.rollout_length 0": "at least 1",
    "fit --model.ppo.bptt_steps 0": "at least 1",
    "fit --model.ppo.epochs 1e400": "epochs",
    "fit --model.ppo.anneal maybe": "true or false",
    "fit --model.ppo 5": "ppo",
    "fit --controller_args.hidden_dim 0": "hidden_dim is 0; the least is 1",
    "fit --controller_args.hidden_dim -8": "hidden_dim is -8; the least is 1",
    "fit --controller_args.hidden_dim 1.5": "whole number",
    "fit --controller_args.hidden_dim nan": "hidden_dim",
    "fit --controller_args.hidden_dim 999999999999": "hidden_dim",
    "fit --controller_args.memory_horizon -1": "memory_horizon is -1",
    "fit --controller_args.depth 0": "depth is 0; the least is 1",
    "fit --controller_args.mlp_ratio nan": "mlp_ratio",
    "fit --controller_args 7": "controller_args",
    "fit --controller pseudo_mamba --controller_args.gated 3": "true or false",
    "fit --controller transformer --controller_args.num_heads 0": "num_heads is 0",
    "fit --controller transformer --controller_args.num_heads 7": "no multiple",
    "fit --controller transformer --controller_args.context_length 0": "context_length is 0",
    "fit --controller transformer --controller_args.chunk 0": "chunk is 0",
    "fit --controller mamba --controller_args.d_state 0": "d_state is 0",
    "fit --controller mamba --controller_args.d_conv 0": "d_conv is 0",
    "fit --controller mamba --controller_args.dt_min nan": "dt_min",
    "fit --controller mamba2 --controller_args.headdim 7": "headdim",
    "fit --controller mlstm --controller_args.num_heads 7": "num_heads",
    "fit --controller lru --controller_args.memory_horizon null --controller_args.r_max 2": "lru",
    "fit --controller os.system": "not a subclass",
    "fit --controller os.path": "not a subclass",
    "fit --controller memsuite.controllers.Controller": "does not define forward_step, init_state, reset_mask; docs/",
    "fit --task memsuite.tasks.Task": "does not define",
    "fit --controller .": "controller",
    "fit --controller a..b": "cannot be imported",
    "fit --controller torch.nn.Linear": "not a subclass",
    "fit --controller memsuite.controllers.Nothing": "Nothing",
    "fit --task_args.num_cues 0": "num_cues",
    "fit --task_args.num_cues 2.5": "whole number",
    "fit --task_args.num_cues true": "must be a number",
    "fit --task_args.num_cues 1000000": "num_cues",
    "fit --task_args 3": "task_args",
    "fit --device cuda:7": "not available",
    "fit --device cpu:x": "no device",
    "fit --device ''": "no device",
    "fit --device cpu --trainer.accelerator cuda": "--device sets trainer.accelerator; leave one of the two out",
    "fit --devices 2 --trainer.devices=4": "--devices sets trainer.devices; leave one of the two out",
    "fit --trainer.enable_checkpointing true": "use --checkpoint_every",
    "fit --trainer.precision 17": "precision",
    "fit --trainer.precision half": "precision",
    "fit --trainer.devices 0": "devices",
    "fit --trainer.devices x": "devices",
    "fit --trainer.accelerator warp": "warp",
    "fit --trainer.accelerator gpu": "gpu",
    "fit --trainer.strategy nothing": "nothing",
    "fit --trainer.max_epochs 3": "--steps",
    "fit --trainer.max_steps -7": "max_steps",
    "fit --trainer.callbacks nowhere.Callback": "class_path 'nowhere.Callback': No module named 'nowhere'",
    "fit --trainer.callbacks+=memsuite.callbacks.StopAtTarget --trainer.callbacks.patiense 3": "patience",
    "fit --trainer.callbacks os.system": "callbacks",
    "fit --trainer.logger nowhere.Logger": "trainer.logger: class_path 'nowhere.Logger': No module named 'nowhere'",
    "fit --trainer.val_check_interval 3": "--evaluate_every",
    "fit --trainer.gradient_clip_val 1": "max_grad_norm",
    "fit --trainer.accumulate_grad_batches 2": "minibatches",
    "fit --trainer.limit_val_batches -1": "limit_val_batches",
    "fit --trainer.profiler nothing": "profiler",
    "fit --trainer.num_nodes 0": "num_nodes",
    "fit --trainer.num_nodes 2": "MASTER_ADDR, MASTER_PORT, NODE_RANK is not set",
    "fit --devices 0": "above 0",
    "fit --devices 3 --device cpu": "shared by 3 processes of 32 draws: it must be a multiple of 96",
    "fit --devices 32 --device cpu --model.ppo.minibatches 4": "at most num_envs = 2048 / 32 draws / 32 processes",
    "fit --trainer.strategy ddp_spawn": "ddp_spawn is not supported; valid: auto, ddp",
    "fit --trainer.strategy fsdp": "fsdp is not supported",
    "fit --wandb_mode OFFLINE": "offline",
    "fit --out file": "cannot write",
    "fit --out file/x": "cannot write",
    "fit --ckpt_path folder": "no checkpoint",
    "fit --ckpt_path /dev/null": "no checkpoint",
    "fit --ckpt_path file": "not a whole memsuite checkpoint",
    "fit positional": "positional",
    "fit -x": "-x",
    "test": "--ckpt_path",
    "test --ckpt_path nowhere": "no checkpoint",
    "validate --ckpt_path last": "--out",
    "validate --ckpt_path last --out nowhere": "no checkpoint",
    "test --ckpt_path file --overwrite": "--overwrite does nothing here",
    "test --ckpt_path file --wandb_mode=offline": "--wandb_mode does nothing here",
    "validate --ckpt_path file --out folder": "--out does nothing here: memsuite validate evaluates and writes nothing",
    "tasks --nope": "--nope",
    "tasks --set second --task copy_memory": "leave --set out",
    "tasks --draw folder --json": "leave --anchors, --json and --difficulty out",
    "tasks --episodes 64": "add --anchors",
    "tasks --seed 1": "add --anchors or --draw",
    "tasks --episodes 0 --anchors": "the least is 1",
    "tasks --task ''": "no task",
    "tasks extra": "extra",
    "controllers --hidden_dim x": "hidden_dim",
    "controllers --hidden_dim 0": "hidden_dim",
    "bench": "a subcommand is missing; the subcommands are: environments, training, scaling, ops, threads, records",
    "bench thraeds": "no subcommand 'thraeds'; the subcommands are: environments, training",
    "bench --threads 2": "no subcommand '--threads'; the subcommands are: environments, training",
    "bench environments --tasks nothing": "nothing",
    "bench environments --controllers gru": "no option '--controllers'",
    "bench training --controllers nothing": "nothing",
    "bench training --out folder": "is a folder",
    "bench training --horizon 3": "--horizons",
    "bench training --repeats 0": "--repeats is 0; the least is 1",
    "bench ops --horizons 200": "no option '--horizons'",
    "bench gpu": "torch.cuda.is_available() is false",
    "bench threads --threads 1": "--threads is 1; the least is 2",
    "bench peers": "--peer",
    "bench peers --peer jax": "NAME=COMMAND",
    'bench peers --peer "a=echo \'not closed"': "NAME=COMMAND",
    "bench peers --controllers lru --peer a=true": "it printed nothing",
    "bench peers --controllers lru --peer a=/no/such": "No such file",
    "tets": "did you mean: test",
}


@pytest.fixture
def answer(tmp_path, monkeypatch, capsys):
    """Return the one line that answers a mistaken command, after a check that no files were left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no checkpoint")

    return answer_in(tmp_path, lambda: capsys.readouterr().err)


@pytest.mark.parametrize("name", FILES)
def test_a_file(answer, tmp_path, name):
    (tmp_path / "c.yaml").write_bytes(FILES[name])
    answer("fit", "--config", "c.yaml")


@pytest.mark.parametrize("line", LINES)
def test_a_line(answer, line):
    assert LINES[line] in answer(*shlex.split(line))


NUMBERS = ["horizon", "steps", "num_envs", "evaluation_episodes", "model.ppo.epochs", "model.ppo.clip"]
NUMBERS += ["model.ppo.learning_rate", "model.ppo.minibatches", "model.ppo.discount", "model.ppo.rollout_length"]
NUMBERS += ["trainer.max_steps"]
KEYS = [*NUMBERS, "task", "controller", "difficulty", "seed", "model.ppo", "model", "trainer", "task_args"]
# null is valid for some of them, and a number is a mistake for all of them.
NO_NUMBER = st.one_of(
    st.just(float("nan")),
    st.just(float("-inf")),
    st.integers(-(10**30), -2),
    st.text("abcxyz", min_size=1),
    st.lists(st.integers(), min_size=1, max_size=3),
    st.dictionaries(st.text("abc", min_size=1), st.integers(), min_size=1, max_size=2),
)
MISTYPED = st.tuples(st.sampled_from(KEYS), st.integers(0, 30), st.sampled_from("qzj"))


def nested(key: str, value) -> bytes:
    for part in reversed(key.split(".")):
        value = {part: value}
    return yaml.safe_dump(value).encode()


SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@SAME_FOLDER
@given(st.sampled_from(NUMBERS), NO_NUMBER, st.booleans())
def test_any_value_that_is_no_number(answer, tmp_path, key, value, in_file):
    if in_file:
        (tmp_path / "c.yaml").write_bytes(nested(key, value))
        answer("fit", "--config", "c.yaml")
    else:
        answer("fit", f"--{key}={yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]}")


@SAME_FOLDER
@given(MISTYPED, st.booleans())
def test_any_key_with_a_letter_too_many(answer, tmp_path, mistyped, in_file):
    key, place, letter = mistyped
    place %= len(key) + 1
    key = key[:place] + letter + key[place:]
    if in_file:
        (tmp_path / "c.yaml").write_bytes(nested(key, 3))
        answer("fit", "--config", "c.yaml")
    else:
        answer("fit", f"--{key}=3")
