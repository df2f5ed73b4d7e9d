"""The measurements of ``memsuite bench``: one file per subcommand, and shared code in :mod:`memsuite.bench.measure`.

Every subcommand's file has ``measure(console, ...)``, which takes the subcommand's options by name and returns the
content of the report, and ``table(report)``, which lays the report out for the terminal.
"""
