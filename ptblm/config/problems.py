"""Messages for the errors that pydantic finds in a config or another YAML file."""

from collections.abc import Callable
from typing import Any

from pydantic_core import ErrorDetails

from ptblm.config.schema import SECTIONS
from ptblm.config.unknown_keys import closest
from ptblm.config.yaml_document import KeyPath, Locations, quote, shorten

# What the keys with a text pattern expect.
_PATTERNS = {
    "path": "expected a path",
    "file": "expected a path",
    "unk": "expected a word without spaces",
    "device": "expected auto, cpu, cuda, cuda:N or mps",
    "checkpoint_every": "expected '5 minutes' or '200 steps'",
}
_BOUNDS = {
    "gt": "greater than",
    "ge": "greater than or equal to",
    "lt": "less than",
    "le": "less than or equal to",
}


def reword(details: ErrorDetails) -> str:
    """Returns a readable message for a pydantic error."""
    context, key = details.get("ctx", {}), details["loc"][-1]
    match details["type"]:
        case "model_type" | "dict_type":
            keys = SECTIONS.get(".".join(map(str, details["loc"])), [])
            return f"expected a section of keys ({', '.join(keys)})"
        case "int_type" | "int_from_float":
            return "expected a whole number"
        case "float_type":
            return "expected a number"
        case "bool_type":
            return "expected true or false"
        case "finite_number":
            return "expected a finite number"
        case "string_type" | "string_pattern_mismatch" if key in _PATTERNS:
            return _PATTERNS[str(key)]
        case "string_type":
            return "expected text"
        case "string_too_short":
            return "expected text that is not empty"
        case "list_type" | "too_short":
            return "expected a list that is not empty"
        case "too_long":
            return f"expected at most {context['max_length']:,} values"
        case "string_unicode":
            return "expected text in UTF-8"
        case "literal_error":
            return f"expected {context['expected']}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return next(
                f"must be {_BOUNDS[name]} {_figure(bound)}" for name, bound in context.items()
            )
        case "value_error":
            return details["msg"].removeprefix("Value error, ")
        case _:
            return details["msg"].replace("Input should be", "expected")


def show_value(value: Any) -> str:
    """Returns a short representation of a value for messages."""
    if value is None:
        return "nothing (null)"
    return str(value).lower() if isinstance(value, bool) else quote(value)


def show_wrong(value: Any, details: ErrorDetails) -> str:
    """Returns a short representation of the value of a pydantic error."""
    return _figure(value) if _BOUNDS.keys() & details.get("ctx", {}).keys() else show_value(value)


def _figure(number: float) -> str:
    """Returns a number with thousands separators."""
    return shorten(f"{number:,}") if isinstance(number, int) else f"{number:.10g}"


def explain(
    details: ErrorDetails, locations: Locations, keys_of: Callable[[KeyPath], list[str]]
) -> str:
    """Formats a pydantic error as one line: location, key and problem.

    Args:
        details: the error.
        locations: the location of each key.
        keys_of: returns the keys of the section at a path.
    """
    path: KeyPath = details["loc"]
    kind = details["type"]
    if kind == "extra_forbidden":
        keys = keys_of(path[:-1])
        guess = closest(str(path[-1]), keys)
        message = f"unknown key, did you mean '{guess}'?" if guess else "unknown key"
        message += "" if guess else f"; the keys here are {', '.join(keys)}"
    elif kind in ("model_type", "model_attributes_type"):
        message = f"expected a section of keys ({', '.join(keys_of(path))})"
    elif kind == "missing":
        message = "missing"
    else:
        message = f"{reword(details)}, got {show_value(details['input'])}"
    found = (locations[path[:n]] for n in range(len(path), -1, -1) if path[:n] in locations)
    key = ".".join(map(str, path))
    return ": ".join(str(part) for part in (next(found, None), key, message) if part)
