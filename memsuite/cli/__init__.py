"""The verbs of the ``memsuite`` command, one file each; imported only when called."""
