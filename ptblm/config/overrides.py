"""Applies command-line values to the data of a config, regardless of their order."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ptblm.config.dropout import expand_dropout
from ptblm.config.schema import NUMBER_OR_SECTION, VARIANT_KEYS
from ptblm.config.section import expand_variant
from ptblm.config.yaml_document import KeyPath, Locations, parse_yaml, quote
from ptblm.errors import ConfigError

_FLAGS = {"data.path": "--data", "model.cell.type": "--cell", "run.fused": "--no-fused"}


class Override(NamedTuple):
    """A value from the command line: the option as typed, the key, and the value."""

    option: str
    path: KeyPath
    value: object


def parse_overrides(
    texts: Sequence[str], flags: Mapping[str, object], problems: list[str]
) -> Iterator[Override]:
    """Yields the overrides of a command line.

    Args:
        texts: arguments of --set, "key=value" with the value as YAML.
        flags: values of dedicated options by key, such as "training.seed"; None if not passed.
        problems: receives a line for each argument that cannot be parsed.
    """
    for name, value in flags.items():
        if value is not None:
            path = tuple(name.split("."))
            yield Override(_FLAGS.get(name, f"--{path[-1]}"), path, value)
    for text in texts:
        option = f"--set {text}"
        name, equals, value = text.partition("=")
        path = tuple(name.strip().split("."))
        if not equals or not all(path):
            problems.append(f"{option}: expected key=value, as in model.hidden_size=400")
            continue
        try:
            yield from single_keys(Override(option, path, parse_yaml(value, option).data))
        except ConfigError as error:
            problems += [_at_option(problem, option, value) for problem in error.problems]


def apply_overrides(
    data: dict[str, Any],
    locations: Locations,
    overrides: Iterable[Override],
    problems: list[str],
) -> None:
    """Writes overrides into `data` and their command-line options into `locations`.

    Variants are chosen before options are set, so that the order of overrides does not matter.
    Choosing another variant drops the options of the previous one, and a number for
    `model.dropout` drops its other keys.

    Args:
        data: the config, modified in place.
        locations: the location of each key, modified in place.
        overrides: the overrides to apply.
        problems: receives a line for each override that cannot be applied.
    """
    seen: dict[KeyPath, Override] = {}
    for override in sorted(overrides, key=lambda o: not _replaces_section(o)):
        earlier = seen.setdefault(override.path, override)
        if earlier is not override and earlier.value != override.value:
            problems.append(_contradiction(earlier, override))
            continue
        try:
            _apply(data, locations, override)
        except ConfigError as error:
            problems += error.problems
        else:
            locations[override.path] = override.option


def _at_option(problem: str, option: str, value: str) -> str:
    """Rewords a problem with the YAML value of an option: line and column are not helpful there."""
    problem = re.sub(r"^(:\d+:\d+)?: ", "", problem.removeprefix(option))
    if problem.startswith("not valid YAML"):
        problem = f"{quote(value)} is not a valid YAML value"
    return f"{option}: {problem}"


def _contradiction(first: Override, second: Override) -> str:
    key = ".".join(map(str, first.path[:-1] if _chooses_variant(first) else first.path))
    values = [f"{override.value}" for override in (first, second)]
    options = [override.option.split()[0] for override in (first, second)]
    if options[0] != options[1]:
        values = [f"{value} ({option})" for value, option in zip(values, options, strict=True)]
    return f"{key} is set twice: to {' and to '.join(values)}"


def single_keys(override: Override) -> Iterator[Override]:
    """Splits an override of a whole variant into overrides of its `type` and its options."""
    option, path, value = override
    if path == NUMBER_OR_SECTION and isinstance(value, dict):
        yield Override(option, path, 0.0)
        for key, item in value.items():
            yield Override(option, (*path, key), item)
    elif path not in VARIANT_KEYS:
        yield override
    elif isinstance(value, str):
        yield Override(option, (*path, "type"), value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield Override(option, (*path, key), item)
    else:
        yield override


def _replaces_section(override: Override) -> bool:
    return override.path == NUMBER_OR_SECTION or _chooses_variant(override)


def _chooses_variant(override: Override) -> bool:
    *parent, key = override.path
    return key == "type" and tuple(parent) in VARIANT_KEYS


def _apply(data: dict[str, Any], locations: Locations, override: Override) -> None:
    if isinstance(override.value, dict):
        raise ConfigError(f"{override.option}: is a section; set its keys individually")
    *parents, key = override.path
    target = data
    for depth, parent in enumerate(parents, 1):
        if parent not in target:
            target[str(parent)] = {}
            locations[override.path[:depth]] = override.option
        value = target[str(parent)]
        variant_key = VARIANT_KEYS.get(override.path[:depth])
        if variant_key is not None:
            value = expand_variant(value, variant_key.default)
            if _chooses_variant(override) and not (
                isinstance(value, dict) and value["type"] == override.value
            ):
                value = {}
            target[str(parent)] = value
        if override.path[:depth] == NUMBER_OR_SECTION:
            value = target[str(parent)] = expand_dropout(value)
        if not isinstance(value, dict):
            raise ConfigError(f"{override.option}: '{parent}' is not a section")
        target = value
    target[str(key)] = override.value
