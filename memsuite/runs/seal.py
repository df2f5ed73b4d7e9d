"""The seal of a run: it tells a checkpoint that this user has made here from one that somebody else has sent.

A checkpoint that names modules of the user's own carries a code over those names that only this user's key can make. So
it is known again without being asked, and nobody else can make a file that is.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SEALED = ("task", "controller", "task_args", "controller_args")  # what may name code
LENGTH = 32  # bytes of the key


def seal(config: Mapping[str, Any]) -> str | None:
    """Return the code of this user over what the settings of a run name; None where no key can be kept."""
    secret = _key()
    if secret is None:
        return None
    text = json.dumps({name: config.get(name) for name in SEALED}, sort_keys=True)
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def is_sealed(saved: Mapping[str, Any]) -> bool:
    """Tell whether a checkpoint carries this user's code over what its settings name.

    Args:
        saved: what memsuite has added to the checkpoint.
    """
    given = saved.get("seal")
    if not isinstance(given, str) or not given.isascii() or not _place().is_file():
        return False
    return hmac.compare_digest(given, seal(saved["config"]) or "no seal")


def _place() -> Path:
    """Return where the key lies: nobody else can read it, and it leaves this machine with nothing that is shared."""
    with contextlib.suppress(RuntimeError):  # no home
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "memsuite" / "key"
    return Path(os.devnull)


def _key() -> bytes | None:
    """Return this user's key, which is made when it is first needed."""
    place = _place()
    try:
        if not place.exists():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # by another process, at the same moment
                handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(LENGTH))
        found = place.stat()
        if (hasattr(os, "geteuid") and found.st_uid != os.geteuid()) or found.st_mode & 0o077:
            return None  # somebody else may know it
        key = place.read_bytes()
    except OSError:
        return None
    return key if len(key) == LENGTH else None
