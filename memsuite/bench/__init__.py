"""What ``memsuite bench`` measures: one file for each subcommand, and what they share in :mod:`memsuite.bench.measure`.

Every subcommand's file has ``measure(console, ...)``, which takes the subcommand's options by name and returns what
goes into the report, and ``table(report)``, which lays that out for the terminal.
"""
