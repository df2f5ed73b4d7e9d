"""Grids of runs: a YAML file becomes ``memsuite fit`` command lines, each run in its own process and folder."""
