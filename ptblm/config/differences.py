"""Compares two configs key by key."""

from collections.abc import Iterator
from typing import Any

from ptblm.config.schema import Config


def config_differences(before: Config, after: Config) -> list[tuple[str, object, object]]:
    """Returns each key that differs, as in "model.hidden_size", with both of its values.

    Where another variant is chosen, as in "model.cell", the names of both are the values.
    """
    return list(_differences("", before.model_dump(), after.model_dump()))


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
