"""Path expansion, and quoting of paths in suggested commands."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

RUN_HINT = "pass a run directory, such as runs/small-ptb"


def expand_path(text: str) -> Path:
    """Returns a path with `~` and `$VARIABLE` expanded as in a shell.

    An existing file or directory of exactly this name has priority. An unknown user or variable
    stays as it is.
    """
    if os.path.lexists(text):
        return Path(text)
    return Path(os.path.expandvars(os.path.expanduser(text)))


def shell_join(words: Iterable[str]) -> str:
    r"""Returns a command line that a shell splits into `words`, free of control characters.

    A word with control characters or bytes that are not UTF-8 is written as `$'a\xffb'`, which
    bash and zsh understand.
    """
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(
        {"\\": "\\\\", "'": "\\'"}.get(character, character)
        if character.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
        for character in word
    )
    return f"$'{escaped}'"
