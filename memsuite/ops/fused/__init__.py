"""Small operations, each of which does in one pass over memory what PyTorch does in several; one file each.

Nothing is imported here, so that ``memsuite.ops.fused.rms_norm`` is the module and ``memsuite.ops.rms_norm`` the
function.
"""
