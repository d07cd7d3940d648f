"""What the user has agreed to: custom cells, which are code, and corpora outside of ptblm.

A checkpoint or a config can come from a stranger. What it names is used only if the user typed the
same name in this command (`allow`), or has trained with it on this machine (`remember`).
"""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Literal

from ptblm.files import make_private_directory, open_regular, write_text

Kind = Literal["cell", "corpus"]

_allowed: set[tuple[Kind, str]] = set()


def allow(kind: Kind, name: str) -> None:
    """Allows this process to use what `name` stands for, because the user typed it.

    Args:
        kind: "cell" for a custom cell, "corpus" for a corpus.
        name: the name of the cell, such as "my_module:MyCell", or the path of the corpus.
    """
    _allowed.add((kind, name))


def is_allowed(kind: Kind, name: str) -> bool:
    """Returns whether the user typed the name in this process."""
    return (kind, name) in _allowed


def remember(kind: Kind, thing: str) -> None:
    """Records that the user has trained with a thing. Without a home directory, does nothing.

    Args:
        kind: see `allow`.
        thing: everything that must be the same later, such as a path and the hash of the file.
    """
    with contextlib.suppress(OSError):
        record = _record(kind, thing)
        if not record.exists():
            make_private_directory(record.parent)
            write_text(record, f"{kind}\n{thing}\n")


def is_remembered(kind: Kind, thing: str) -> bool:
    """Returns whether the user has trained with a thing on this machine."""
    try:
        open_regular(_record(kind, thing), private=True).close()
    except OSError:
        return False
    return True


def _record(kind: Kind, thing: str) -> Path:
    """Returns the file whose existence is the record.

    Raises:
        OSError: if the user has no home directory.
    """
    name = hashlib.sha256(os.fsencode(f"{kind}\n{thing}")).hexdigest()
    try:
        home = Path(os.environ.get("XDG_STATE_HOME", ""))
        if not home.is_absolute():  # must be ignored (XDG Base Directory Specification)
            home = Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return home / "ptblm" / "trained-with" / name
