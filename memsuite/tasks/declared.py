"""What a user's own task declares of itself, held to what it must be."""

from __future__ import annotations

from memsuite.errors import UsageError
from memsuite.tasks.actions import Discrete
from memsuite.tasks.base import ScriptedTask, Task


def check_declared(who: str, task: Task) -> None:
    """Raise a usage error if a size of a user's task is not a whole number above 0.

    Args:
        who: name of the task, and the file and line of its class.
        task: the task, just after construction.
    """
    names = ("horizon", "observation_dim", *(["num_actions"] if task._space is None else []))
    for name in names:
        value = getattr(task, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{who}: {name} is {value!r}; its __init__ must call self._define, with whole numbers")
    if isinstance(task, ScriptedTask) and not isinstance(task.action_space, Discrete):
        raise UsageError(f"{who}: its actions are {task.action_space}; a ScriptedTask has Discrete ones, Task has any")
    steps = task.steps_to_remember()
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UsageError(f"{who}: steps_to_remember() returns {steps!r}; it must be a whole number of steps")
