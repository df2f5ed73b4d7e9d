"""Small operations, one file each; each makes one pass over memory where PyTorch makes several.

Nothing is imported here, so that ``memsuite.ops.fused.rms_norm`` is the module and ``memsuite.ops.rms_norm`` the
function.
"""
