"""Strict JSON: bounded parsing of untrusted text, and atomic writing."""

import json
import math
import re
from pathlib import Path
from typing import Any

from ptblm.files import open_regular, write_text

# Bounds for the JSON files of a run, which ptblm itself keeps far below them.
MAX_FILE_BYTES = 2_000_000
MAX_FILE_MEMORY = 50_000_000

MAX_DEPTH = 64
MAX_DIGITS = 20

# Strings, so that the characters in them are not counted. A string without an end is matched too,
# because searching on from its start would take quadratic time.
_STRING = re.compile(r'"(?>[^"\\]*)(?>(?:\\.[^"\\]*)*)"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
# Bytes that CPython takes at most for a short string, a number, and a list or dict, each with its
# place in a list.
_STRING_BYTES, _NUMBER_BYTES, _CONTAINER_BYTES = 73, 45, 240


class JsonError(ValueError):
    """The text is not a JSON object, or exceeds a bound; the message describes the problem."""


def parse_json(text: str | bytes, max_memory: int) -> dict[str, Any]:
    """Parses a JSON object from an untrusted file.

    The depth, the memory of the result and the length of numbers are bounded before the text is
    parsed. NaN and infinity are accepted.

    Args:
        text: the JSON; bytes are UTF-8.
        max_memory: upper bound of the memory of the result in bytes.

    Raises:
        JsonError: if the text is not a JSON object, contains a duplicate key, or exceeds a bound.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        _check_structure(decoded, max_memory)
        content = json.loads(
            decoded, object_pairs_hook=_without_duplicates, parse_int=_integer_in_bounds
        )
    except JsonError:
        raise
    except (ValueError, RecursionError):
        raise JsonError("the JSON cannot be parsed") from None
    if not isinstance(content, dict):
        raise JsonError("the JSON is not an object")
    return content


def _check_structure(text: str, max_memory: int) -> None:
    """Checks the depth of a text, and the memory that its elements take besides their characters.

    Raises:
        JsonError: if a bound is exceeded.
    """
    structure = _STRING.sub('""', text)
    strings = structure.count('""')
    containers = structure.count("[") + structure.count("{")
    numbers = structure.count(",")
    memory = strings * _STRING_BYTES + numbers * _NUMBER_BYTES + containers * _CONTAINER_BYTES
    if memory > max_memory:
        raise JsonError("the JSON has too many elements")
    depth = 0
    for bracket in _BRACKET.finditer(structure):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise JsonError(f"the JSON is nested too deeply (more than {MAX_DEPTH} levels)")


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
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
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
        return parse_json(raw, MAX_FILE_MEMORY) if len(raw) <= MAX_FILE_BYTES else {}
    except (OSError, JsonError):
        return {}
