"""Builds the compiled ops from ``csrc`` on first use, keeps them in a cache, and loads them.

:mod:`~memsuite.ops.build.cpu` and :mod:`~memsuite.ops.build.cuda` each build one library;
:mod:`~memsuite.ops.build.cache` holds what they share, :mod:`~memsuite.ops.build.commands` runs the compilers,
:mod:`~memsuite.ops.build.trial` is the program that tries a new library before it is kept, and
:mod:`~memsuite.ops.build.probe` builds what only a benchmark needs.
"""
