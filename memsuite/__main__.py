"""The ``memsuite`` command: finds the verb, and imports only what that verb needs."""

from __future__ import annotations

import io
import os
import sys
import traceback

from memsuite.errors import Stopped, UsageError, unknown

VERBS = {
    "fit": "train an agent: memsuite fit --task delayed_cue --controller gru, or --config FILE",
    "validate": "evaluate a checkpoint on the validation episodes",
    "test": "evaluate a checkpoint on the test episodes",
    "suite": "run a grid of runs that survives being stopped: memsuite suite basic_v1",
    "tasks": "list the tasks and what each difficulty means",
    "controllers": "list the sequence models, their parameters and the size of their state",
    "check": "hold your own controller, or those built in, to the laws; status 1 if one is broken",
    "build": "compile the ops ahead of their first use",
    "compare": "set results against a baseline, cell by cell; status 1 if something is worse",
    "report": "make one page of results: tables, curves, maps",
    "submit": "make a file of results for the leaderboard, or check one",
    "retention": "evaluate a trained agent at horizons far beyond its own",
    "bench": "measure the speed of tasks, training and ops: memsuite bench --help lists the parts",
}

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch reads it once: tensors of 2 MB and more on huge pages, where there are
JUDGES = ("compare", "report")  # what they fail over lies in the results, and status 1 of compare means worse


def usage() -> str:
    """Return the text of ``memsuite --help``."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    head = ["usage: memsuite VERB [OPTIONS]", "", "Measure long-horizon memory in sequence models.", "", "verbs:"]
    tail = ["", "memsuite VERB --help lists a verb's options; memsuite --version prints the version."]
    return "\n".join([*head, *lines, *tail])


def _show_what_can_be_shown() -> None:
    """Print a question mark for a letter that the terminal's encoding lacks, rather than fail over it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main(argv: list[str] | None = None) -> int:
    """Run one verb; return the exit status: 0, or 2 after one line that names the user's mistake."""
    arguments = sys.argv[1:] if argv is None else argv
    _show_what_can_be_shown()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from memsuite.shipped import version

        print(version())
        return 0
    verb, *rest = arguments
    try:
        return _run(verb, rest)
    except UsageError as error:
        where = f"memsuite {verb}" if verb in VERBS else "memsuite"
        print(f"{where}: error: {error}", file=sys.stderr)
        return 2
    except Stopped as end:
        print(f"memsuite {verb}: {end}", file=sys.stderr)
        return end.status
    except KeyboardInterrupt:
        print(f"memsuite {verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        sys.stderr.close()
        return 0
    except Exception as error:
        return _after(error, verb)


def _run(verb: str, rest: list[str]) -> int:
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    from memsuite.imports import COPIES, PLACES

    PLACES.clear()  # of a command before this one in the same process
    COPIES.clear()
    os.environ.setdefault(HUGE_PAGES, "1")
    name = "fit" if verb in ("fit", "validate", "test") else verb
    from memsuite.launch.light import light_import

    status: int = light_import(f"memsuite.cli.{name}").main(verb, rest)
    return status


def _after(error: Exception, verb: str) -> int:
    """Say in one line what an error means that nothing else has told; return the exit status.

    A full disk, results that cannot be read, and a mistake in a user's code are told. Anything else is a fault of
    memsuite's, and is raised again, as is everything with ``MEMSUITE_TRACEBACK``.
    """
    from memsuite.blame import in_one_line, users_line
    from memsuite.files import FULL

    line, judges = f"memsuite {verb}: ", verb in JUDGES
    if os.environ.get("MEMSUITE_TRACEBACK"):
        if not judges:
            raise error
        traceback.print_exception(error)
        return 2
    if isinstance(error, OSError) and error.errno in FULL:
        print(f"{line}error: cannot write {error.filename or 'its output'}: {error.strerror}", file=sys.stderr)
        return 2
    if judges:
        print(f"{line}error: {in_one_line(error)}; MEMSUITE_TRACEBACK=1 shows more", file=sys.stderr)
        return 2
    if not users_line(error):
        raise error
    print(f"{line}{in_one_line(error)}; MEMSUITE_TRACEBACK=1 shows the traceback", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
