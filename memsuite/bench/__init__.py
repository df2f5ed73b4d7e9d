"""The measurements of ``memsuite bench``: one file per subcommand, and shared code in :mod:`memsuite.bench.measure`.

Every subcommand's file has ``measure(console, ...)``, which takes the subcommand's options by name and returns the
content of the report, and ``table(report)``, which lays the report out for the terminal.
"""

# What each stage of the check on a GPU answers; its steps are in memsuite/bench/gpu_steps.py.
STAGES = {
    "build": "the ops of CUDA are compiled and loaded",
    "ops": "each op has the host's numbers, forward and backward",
    "controllers": "each controller has the host's numbers, in full precision and in bf16-mixed",
    "golden": "the golden task is learnt",
    "training": "environment steps per second of training",
    "processes": "a run of one process with NCCL ends as one without it",
    "profile": "where the time of an iteration goes",
}
