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
# About half of the characters are spaces. Lines of one character have none.
_MIN_SPACES = 0.2
# Two characters that are not separated, or separators that plain text has. Three spaces are a space
# between two separators.
_NOT_SPACED = re.compile(r"[^ \n][^ \n]|(?<! )  (?! )| {4}")
# A text with a smaller share of characters that are not separated probably has this form too.
_MAX_EXCEPTIONS = 0.1
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
    if _exceptions(source) == 0:
        return "spaced_characters"
    return "byte_values" if _has_byte_values(source) else "plain"


def is_nearly_spaced(source: Source) -> bool:
    """Returns whether most characters of a text are separated by spaces, but not all.

    Raises:
        DataError: if the file cannot be read.
    """
    if source.size < 2 * _MIN_SYMBOLS:
        return False
    return 0 < _exceptions(source, _MAX_EXCEPTIONS) <= _MAX_EXCEPTIONS


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
    text = _with_plain_separators(raw.decode("utf-8", "surrogateescape"))
    if text.count(" ") <= _MIN_SPACES * len(text):
        raise ValueError
    text = text.replace("   ", " _ ").replace(" ", "").replace("_", " ")
    return text.encode("utf-8", "surrogateescape")


def _from_values(raw: bytes) -> bytes:
    """Raises ValueError if the text contains anything else than byte values."""
    lines = [bytes(int(value) for value in line.split()) for line in raw.split(b"\n")]
    # If no line has two values, the newlines separate the values.
    return (b"" if all(len(line) < 2 for line in lines) else b"\n").join(lines)


def _with_plain_separators(text: str) -> str:
    """Replaces tabs, CR LF, and other symbols for a space, in text of spaced characters."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\t", " ")
    return text.replace("<space>", "_").replace("\u2581", "_")


def _exceptions(source: Source, most: float = 0.0) -> float:
    """Returns the share of characters that are not separated, up to about `most`.

    Returns 1 if the text has too few spaces, is not UTF-8, or a block has more exceptions.
    """
    spaces = characters = exceptions = 0
    for _, raw in source.blocks(_character_end):
        try:
            text = _with_plain_separators(raw.decode("utf-8")).replace("<unk>", "?")
        except UnicodeDecodeError:
            return 1.0
        if most == 0 and _NOT_SPACED.search(text):
            return 1.0
        exceptions += sum(1 for _ in _NOT_SPACED.finditer(text)) if most else 0
        spaces, characters = spaces + text.count(" "), characters + len(text)
        if exceptions > most * characters:
            return 1.0
    return exceptions / characters if spaces > _MIN_SPACES * characters else 1.0


def _has_byte_values(source: Source) -> bool:
    """Returns whether a text consists of byte values, of which most are printable."""
    count = printable = spaces = 0
    for _, raw in source.blocks(_space_end):
        if raw.translate(None, b"0123456789 \r\n"):
            return False
        words = raw.split()
        if any(len(word) > 3 for word in words):
            return False
        values = [int(word) for word in words]
        if values and max(values) > 255:
            return False
        count, spaces = count + len(values), spaces + values.count(32)
        printable += sum(32 <= value < 127 for value in values)
    return spaces > 0 and printable >= _MIN_PRINTABLE * count


def _character_end(raw: bytes) -> int:
    """Ends a block before a newline or a run of spaces, so that the run is not divided."""
    end = max(raw.rfind(b" "), raw.rfind(b"\n"), 0)
    while end > 0 and raw[end - 1 : end] == b" ":
        end -= 1
    return end


def _space_end(raw: bytes) -> int:
    """Ends a block after a space or a newline."""
    return max(raw.rfind(b" "), raw.rfind(b"\n")) + 1
