"""The bytes of a text, and where they are from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ptblm.errors import DataError

# Files named so hold characters with spaces between them, and `_` for the space itself.
SPELLED = "ptb.char."


@dataclass(frozen=True)
class Source:
    """Bytes that have been read.

    Attributes:
        name: how messages call where they are from.
        raw: the bytes.
        first_line: the number of the line of the file that they begin with.
        is_spelled: whether they are characters with spaces between, and `_` for a space.
    """

    name: str
    raw: bytes
    first_line: int = 1
    is_spelled: bool = False

    @property
    def sha256(self) -> str:
        """Of the bytes."""
        return hashlib.sha256(self.raw).hexdigest()


def read_file(path: Path) -> Source:
    """A file's bytes.

    Raises:
        DataError: if it can't be read.
    """
    try:
        return Source(str(path), path.read_bytes(), is_spelled=path.name.startswith(SPELLED))
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", where=str(path)) from None


def decode(raw: bytes, name: str, line: int) -> str:
    """The text of bytes that begin with line `line` of a file; its byte order mark is no letter.

    Raises:
        DataError: if they are no UTF-8, with the line and its byte.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = raw.rfind(b"\n", 0, error.start) + 1
        line += raw.count(b"\n", 0, error.start)
        raise DataError(
            f"not UTF-8 text (byte {error.start - line_start + 1} of the line)",
            where=f"{name}:{line}",
            hint="convert the file to UTF-8, for instance with iconv, or take data.level byte",
        ) from None
    return text.removeprefix("\ufeff") if line == 1 else text


def refuse_empty(has_tokens: bool, name: str, unit: str) -> None:
    """Raises DataError unless a text has tokens."""
    if not has_tokens:
        raise DataError("the text is empty", where=name, hint=f"give a file with {unit}s in it")
