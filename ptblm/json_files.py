"""Strict JSON: bounded parsing of untrusted text, and atomic writing."""

import json
import math
import re
from pathlib import Path
from typing import Any

from ptblm.files import open_regular, write_text

# Bound for the JSON files of a run, which ptblm itself keeps far below it.
MAX_FILE_BYTES = 2_000_000

# Bounds of the memory of parsed JSON, in addition to one byte for each character: a constant, and a
# multiple of the rest of the file. A large vocabulary belongs to a large model or text.
_MAX_MEMORY, _MAX_MEMORY_RATIO = 60_000_000, 2
MAX_DEPTH = 64
MAX_DIGITS = 20
_TOO_DEEP = f"the JSON is nested too deeply (more than {MAX_DEPTH} levels)"

# Bytes that CPython takes for a value and its place in a list, by the character next to it.
# Measured; characters within strings are counted too, so the sum is an upper bound.
_BYTES = {'"': 32, ",": 40, "[": 64, "{": 200}
# A single character beyond ASCII makes each character of its string take up to four bytes.
_WIDE_BYTES = 3
# An escape of such a character. It follows an even number of backslashes, which are matched without
# backtracking, because that takes memory for each of them.
_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*+\\u")


class JsonError(ValueError):
    """The text is not a JSON object, or exceeds a bound; the message describes the problem."""


def parse_json(text: str | bytes | bytearray, rest: int = 0) -> dict[str, Any]:
    """Parses a JSON object from an untrusted file.

    The memory of the result is bounded before the text is parsed. NaN and infinity are accepted.

    Args:
        text: the JSON; bytes are UTF-8.
        rest: size, in bytes, of what else the file contains.

    Raises:
        JsonError: if the text is not a JSON object, contains a duplicate key, or exceeds a bound.
    """
    try:
        content = json.loads(
            decoded_json(text, rest),
            object_pairs_hook=_without_duplicates,
            parse_int=_integer_in_bounds,
        )
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(_TOO_DEEP) from None
    except ValueError:
        raise JsonError("the JSON cannot be parsed") from None
    if not isinstance(content, dict):
        raise JsonError("the JSON is not an object")
    _check_depth(content)
    return content


def decoded_json(text: str | bytes | bytearray, rest: int = 0) -> str:
    """Returns the text of a JSON document whose memory, once parsed, is bounded.

    See `parse_json` for the arguments.

    Raises:
        JsonError: if the document would take too much memory.
        UnicodeDecodeError: if the bytes are not UTF-8.
    """
    wide = 0 if text.isascii() else 2 * _WIDE_BYTES * len(text)  # of the text and its strings
    _check_memory(wide, rest)
    decoded = text if isinstance(text, str) else text.decode()
    if not wide and _ESCAPE.search(decoded):
        wide = _WIDE_BYTES * len(text)
    elements = sum(decoded.count(character) * size for character, size in _BYTES.items())
    _check_memory(elements + wide, rest)
    return decoded


def _check_memory(needed: int, rest: int) -> None:
    if needed > _MAX_MEMORY + _MAX_MEMORY_RATIO * rest:
        raise JsonError("the JSON would take too much memory")


def _check_depth(content: dict[str, Any]) -> None:
    level: list[Any] = [content]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if level:
        raise JsonError(_TOO_DEEP)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise JsonError("a name occurs twice in the JSON")
    return content


def _integer_in_bounds(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise JsonError(f"the JSON contains an integer of {len(digits):,} digits")
    return int(digits)


def strict_json(content: dict[str, Any], indent: int | None = None) -> str:
    """Returns standard JSON, in which NaN and infinity become null."""
    return json.dumps(finite(content), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """Returns nested dicts and lists in which NaN and infinity are None."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces the content of a file with indented strict JSON.

    Raises:
        OSError: if the file cannot be written.
    """
    write_text(path, strict_json(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file, or an empty dict if there is no valid JSON object."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        return parse_json(raw) if len(raw) <= MAX_FILE_BYTES else {}
    except (OSError, JsonError):
        return {}
