"""Sphinx's roles in docstrings, such as ``:class:`~memsuite.runs.RunConfig```, as links of this site."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|mod|meth|attr|data|obj):`(~?)([\w.]+)`")
MATHS = re.compile(r":math:`([^`]+)`")


def linked(text: str) -> str:
    """Return a docstring in which each role is a link, where this site has what it names, and otherwise its name."""

    def link(found: re.Match[str]) -> str:
        name = found[2].rpartition(".")[2] if found[1] else found[2]
        return f'<autoref identifier="{found[2]}" optional><code>{name}</code></autoref>'

    # In Markdown a word between two backquotes is code already.
    return ROLE.sub(link, MATHS.sub(r"`\1`", text)).replace("``", "`")


class Roles(griffe.Extension):
    """Rewrites every docstring when it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring:
            obj.docstring.value = linked(obj.docstring.value)
