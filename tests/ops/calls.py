"""A mode that keeps the calls of memsuite's ops."""

from torch.utils._python_dispatch import TorchDispatchMode


class Calls(TorchDispatchMode):
    """Keeps the calls of memsuite's ops: the op, its arguments, and what it made."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if str(func).startswith("memsuite."):
            self.found.append((func, args, made))
        return made
