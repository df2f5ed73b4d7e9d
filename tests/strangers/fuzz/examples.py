"""What the fuzz of every kind shares: how many examples are tried, and what is asserted of each of them.

A generator builds something legal and may put faults into it, and it knows which. What is legal must be taken, and the
values that come of it must be right. What is faulty must be refused by an error of memsuite's own, whose text is one
line that names the thing, because the command line shows that text and ends with a status that is not 0.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from memsuite.__main__ import main
from memsuite.errors import Stopped, UsageError

LONG = int(os.environ.get("MEMSUITE_FUZZ", "2000"))  # examples of a kind in the slow tests
LINE = 2000  # letters of a message
SLOW_TO_DRAW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
COUNTS: dict[str, Counter[str]] = {}


class Odd(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


RAISED = {
    "a key": KeyError("level"),
    "two lines": ValueError("first\nsecond"),
    "controls": ValueError("a\r\x1b[31mred\x0b\x85b"),
    "no words": AssertionError(),
    "an error that cannot be shown": Odd(),
    "the end": SystemExit(0),
    "an end with words": SystemExit("no device"),
    "a long text": RuntimeError("x" * 10_000),
    "stop": StopIteration(3),
    "depth": RecursionError("too deep"),
}


def fuzz(strategy: Any, quick: int | None, long: int | None = None) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that makes a parametrized test of a check: a quick one, and a slow one of many examples.

    Args:
        strategy: of the examples.
        quick: examples in the ordinary tests; None for none.
        long: examples in the slow tests; None for the usual number.
    """

    def decorate(check: Callable[..., None]) -> Any:
        def run(examples: int, derandomize: bool) -> None:
            @settings(
                max_examples=examples,
                derandomize=derandomize,
                database=None,
                deadline=None,
                suppress_health_check=SLOW_TO_DRAW,
                phases=[Phase.generate, Phase.shrink],
            )
            @given(strategy)
            def every(example: Any) -> None:
                check(example)

            every()

        many = pytest.param(long or LONG, False, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(7200)])
        few = [pytest.param(quick, True, id="quick")] if quick else []
        name = check.__name__

        @pytest.mark.filterwarnings("ignore")
        @pytest.mark.parametrize(("examples", "derandomize"), [*few, many])
        def test(examples: int, derandomize: bool) -> None:
            run(examples, derandomize)

        test.__name__, test.__qualname__, test.__doc__ = name, name, check.__doc__
        return test

    return decorate


def judged(kind: str, faults: Collection[str] | None, named: str, build: Callable[[], Any]) -> Any:
    """Build an example; assert that it is taken if it has no fault, and otherwise refused in one line.

    Args:
        kind: under which examples are counted.
        faults: what is wrong with the example, as its generator knows; None where it does not know whether anything is,
            and either is right.
        named: a word that the line must hold.
        build: raises what the command line would show.

    Returns:
        What was built; None if it was refused.
    """
    COUNTS.setdefault(kind, Counter())["open" if faults is None else "faulty" if faults else "legal"] += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = build()
    except (UsageError, Stopped) as error:
        found, said = None, str(error)
    else:
        assert not faults, f"taken, but wrong: {sorted(faults)}"
        return found
    assert faults or faults is None, f"refused, but nothing is wrong with it: {said}"
    check_line(said, named)
    return None


def check_line(text: str, named: str) -> None:
    """Assert that a text is one short line, without letters that a terminal obeys, and names the thing."""
    assert text.splitlines() == [text], repr(text)
    assert text.isprintable(), repr(text)
    assert len(text) < LINE, text
    assert named in text, f"{named!r} is not named: {text}"


def told(kind: str, faults: Collection[str] | None, named: str, command: Sequence[str]) -> None:
    """Run a command line; what is legal ends with status 0, and anything else with another one and one line.

    Args:
        kind: under which examples are counted.
        faults: what is wrong with the example; None where it is not known whether anything is.
        named: a word that the line must hold.
        command: the words after ``memsuite``.
    """

    def run() -> None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(command))
        assert "Traceback" not in err.getvalue()
        if status:
            assert status in (1, 2)
            raise UsageError(err.getvalue().strip().splitlines()[-1])

    judged(f"{kind} on the command line", faults, named, run)
