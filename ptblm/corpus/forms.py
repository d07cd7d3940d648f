"""Recognizes texts whose characters or bytes are separated by spaces, by their content.

The Penn Treebank's character files, and files prepared like them, have a space between any two
characters, and `_` for a space: `t h e _ c a t`. Other files, such as some of enwik8, have the
decimal values of the bytes: `116 104 101 32 99 97 116`. Both have newlines where the text has them.
"""

import re
from typing import Literal

from ptblm.corpus.source import Source, bytes_source
from ptblm.errors import DataError

Form = Literal["plain", "spaced_characters", "byte_values"]

TITLES: dict[Form, str] = {
    "plain": "plain text",
    "spaced_characters": "characters separated by spaces, with _ for a space",
    "byte_values": "decimal values of bytes, separated by spaces",
}

# A shorter text is plain: a few one-letter words do not make this form.
_MIN_SYMBOLS = 10
# Two characters that are not separated, or two separators, which plain text nearly always has.
_NOT_SPACED = re.compile(r"[^ \r\n][^ \r\n]|  ")
_BYTE_VALUES = re.compile(rb"(?:(?:1?[0-9]?[0-9]|2[0-4][0-9]|25[0-5])[ \n]+)+")
# About half of the characters are spaces. Lines of one character have none.
_MIN_SPACES = 0.2
# Values of bytes in English text are nearly all letters, digits, spaces and punctuation.
_MIN_PRINTABLE = 0.5


def form_of(source: Source) -> Form:
    """Returns the form of a text. Every part of the text has to have this form.

    Args:
        source: UTF-8 text with LF line ends, or any bytes.

    Raises:
        DataError: if the file cannot be read.
    """
    if source.size < 2 * _MIN_SYMBOLS:
        return "plain"
    if _is_spaced(source):
        return "spaced_characters"
    return "byte_values" if _has_byte_values(source) else "plain"


def plain_text(source: Source, form: Form) -> Source:
    """Returns the plain text of a text in the given form.

    Characters do not have to be separated everywhere: spaces are removed, and `_` becomes a space.

    Raises:
        DataError: if the text does not have this form, or cannot be read.
    """
    if form == "plain":
        return source
    raw = source.read()
    try:
        plain = _without_spaces(raw) if form == "spaced_characters" else _from_values(raw)
    except ValueError:
        raise DataError(
            f"the text does not consist of {TITLES[form]}",
            where=source.name,
            hint="set data.format to auto or plain",
        ) from None
    return bytes_source(source.name, plain)


def _without_spaces(raw: bytes) -> bytes:
    """Raises ValueError if the text has too few spaces for this form."""
    if raw.count(b" ") <= _MIN_SPACES * len(raw.decode("utf-8", "ignore")):
        raise ValueError
    return raw.replace(b" ", b"").replace(b"_", b" ")


def _from_values(raw: bytes) -> bytes:
    """Raises ValueError if the text contains anything else than byte values."""
    lines = [bytes(int(value) for value in line.split()) for line in raw.split(b"\n")]
    return b"\n".join(lines)


def _is_spaced(source: Source) -> bool:
    """Returns whether no two characters or spaces are next to each other."""
    spaces = characters = 0
    for _, raw in source.blocks(_character_end):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return False
        if _NOT_SPACED.search(text):
            return False
        spaces, characters = spaces + text.count(" "), characters + len(text)
    return spaces > _MIN_SPACES * characters


def _has_byte_values(source: Source) -> bool:
    """Returns whether a text consists of byte values, of which most are printable."""
    count = printable = spaces = 0
    for _, raw in source.blocks(_space_end):
        if not _BYTE_VALUES.fullmatch(raw.strip() + b"\n"):
            return False
        values = [int(value) for value in raw.split()]
        count, spaces = count + len(values), spaces + values.count(32)
        printable += sum(32 <= value < 127 for value in values)
    return spaces > 0 and printable >= _MIN_PRINTABLE * count


def _character_end(raw: bytes) -> int:
    """Ends a block before a space or newline, so that no two characters meet at its start."""
    return max(raw.rfind(b" "), raw.rfind(b"\n"), 0)


def _space_end(raw: bytes) -> int:
    """Ends a block after a space or a newline."""
    return max(raw.rfind(b" "), raw.rfind(b"\n")) + 1
