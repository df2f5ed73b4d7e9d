"""The recurrences over time, one file each; ``reset[t, b]`` zeroes the state before step ``t``.

Nothing is imported here, so that ``memsuite.ops.scans.gru_scan`` is the module and ``memsuite.ops.gru_scan`` the
function.
"""
