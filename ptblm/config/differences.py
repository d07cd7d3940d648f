"""Compares configs key by key."""

from collections.abc import Iterator, Sequence
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


def config_values(config: Config) -> dict[str, object]:
    """Returns the value of each key, such as "model.hidden_size"; that of a variant is its name."""
    entries = _entries("", (), config.model_dump())
    return {key: value for key, _, value in entries if value is not dict}


def differing_keys(configs: Sequence[Config]) -> list[str]:
    """Returns the keys whose values are not equal in all configs, in the order of the configs.

    The options of a variant are compared among the configs that have this variant.
    """
    values: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for config in configs:
        for key, variants, value in _entries("", (), config.model_dump()):
            values.setdefault((key, variants), set()).add(repr(value))
    places = {key: place for place, key in enumerate(dict.fromkeys(key for key, _ in values))}

    def order(key: str) -> list[int]:
        parts = key.split(".")
        return [places[".".join(parts[:count])] for count in range(1, len(parts) + 1)]

    return sorted({key for (key, _), found in values.items() if len(found) > 1}, key=order)


def _entries(
    prefix: str, variants: tuple[str, ...], section: dict[str, Any]
) -> Iterator[tuple[str, tuple[str, ...], object]]:
    """Yields each key with the variants that it belongs to, and its value.

    The value of a variant is its name, and that of another section is its class.
    """
    for name, value in section.items():
        key = f"{prefix}{name}"
        if not isinstance(value, dict):
            yield key, variants, value
        elif "type" in value:
            yield key, variants, value["type"]
            options = {option: each for option, each in value.items() if option != "type"}
            yield from _entries(f"{key}.", (*variants, value["type"]), options)
        else:
            yield key, variants, dict
            yield from _entries(f"{key}.", variants, value)


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
