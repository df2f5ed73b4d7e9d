"""Grids of runs: a YAML becomes ``memsuite fit`` command lines, each run in a process and a folder of its own."""
