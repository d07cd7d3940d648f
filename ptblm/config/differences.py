"""Compares configs key by key."""

from collections.abc import Iterator
from typing import Any

from ptblm.config.schema import Config


def config_differences(before: Config, after: Config) -> list[tuple[str, object, object]]:
    """Returns the keys that differ, such as "model.hidden_size", each with its two values.

    If the variants of a key such as "model.cell" differ, the two values are their names.
    """
    return list(_differences("", before.model_dump(), after.model_dump()))


def config_value(config: Config, key: str) -> object:
    """Returns the value of a key, such as "model.hidden_size".

    The value of a variant, such as "model.cell", is its name. The value of an option that a variant
    does not have is None.
    """
    value: Any = config.model_dump()
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value.get("type", value) if isinstance(value, dict) else value


def _differences(
    prefix: str, before: dict[str, Any], after: dict[str, Any]
) -> Iterator[tuple[str, object, object]]:
    if before.get("type") != after.get("type"):
        yield prefix.removesuffix("."), before["type"], after["type"]
        return
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(f"{prefix}{key}.", old, new)
        elif old != new:
            yield f"{prefix}{key}", old, new
