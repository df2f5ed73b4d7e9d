"""The README as a package index shows it, where no file of the repository is beside it."""

import re

PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)]+)\)\n*", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)([^)]+)\)")


def for_index(text: str, repository: str = "") -> str:
    """Return a page of Markdown whose pictures and links work outside the repository.

    Args:
        text: the page, with paths relative to the repository.
        repository: the address of the repository, as ``https://host/owner/name``. Without one, the pictures are left
            out and links become their texts, as there is nothing to point at.
    """
    base = repository.rstrip("/")
    if not base:
        return LINK.sub(r"\1", PICTURE.sub("", text))
    text = PICTURE.sub(rf"![\1]({base}/raw/HEAD/\2)\n\n", text)
    return LINK.sub(rf"[\1]({base}/blob/HEAD/\2)", text)
