"""Loads the settings of an evaluation from a file and from options of the command line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ptblm.config.evaluation import (
    CacheSettings,
    DynamicSettings,
    EvaluationSettings,
    MonteCarloSettings,
    Tuned,
)
from ptblm.config.overrides import Override
from ptblm.config.problems import explain
from ptblm.config.section import Section
from ptblm.config.yaml_document import (
    MAX_PROBLEMS,
    KeyPath,
    YamlDocument,
    first_problems,
    parse_yaml,
    read_text,
)
from ptblm.errors import ConfigError

_HINT = "`ptblm tune-eval` writes such a file"
_SECTIONS: dict[str, type[Section]] = {
    "monte_carlo": MonteCarloSettings,
    "dynamic": DynamicSettings,
    "cache": CacheSettings,
    "tuned": Tuned,
}


@dataclass(frozen=True)
class SettingsOptions:
    """Settings as typed on the command line; None for an option that was not passed.

    Attributes:
        file: the file of the settings.
        temperature: the temperature.
        mc_samples: dropout samples.
        cache: keys of the neural cache, such as "window=500,weight=0.1".
        dynamic: keys of dynamic evaluation, such as "learning_rate=1e-4".
    """

    file: Path | None = None
    temperature: float | None = None
    mc_samples: int | None = None
    cache: str | None = None
    dynamic: str | None = None


def load_settings(options: SettingsOptions) -> EvaluationSettings:
    """Returns the settings of a file, with those of other options in place of the same keys.

    Raises:
        ConfigError: with every problem of the file and the options, each with its location.
    """
    document = YamlDocument({}, {})
    if options.file is not None:
        document = parse_yaml(read_text(options.file, "settings", _HINT), str(options.file))
    data = {} if document.data is None else document.data
    locations = dict(document.locations)
    problems: list[str] = []
    if not isinstance(data, dict):
        where = locations.get((), "settings")
        raise ConfigError(f"{where}: expected keys ({_keys(())})", hint=_HINT)
    for override in _overrides(options, problems):
        *parents, key = override.path
        target: dict[Any, Any] = data
        for parent in parents:
            if not isinstance(target.get(parent), dict):
                target[parent] = {}
            target = target[parent]
        target[key] = override.value
        locations[override.path] = override.option
    try:
        settings = EvaluationSettings.model_validate(data)
    except ValidationError as error:
        problems += [explain(each, locations, _fields) for each in error.errors(include_url=False)]
    if problems:
        raise ConfigError(first_problems(problems[:MAX_PROBLEMS], len(problems)))
    return settings


def _overrides(options: SettingsOptions, problems: list[str]) -> Iterator[Override]:
    """Yields the values of the options; adds a line for each one that cannot be parsed."""
    if options.temperature is not None:
        yield Override("--temperature", ("temperature",), options.temperature)
    if options.mc_samples is not None:
        yield Override("--mc-samples", ("monte_carlo", "samples"), options.mc_samples)
    for section, text in (("cache", options.cache), ("dynamic", options.dynamic)):
        for each in [] if text is None else text.split(","):
            option = f"--{section} {each}"
            key, equals, value = (part.strip() for part in each.partition("="))
            if not equals or not key:
                keys = _keys((section,))
                problems.append(f"{option}: expected KEY=VALUE,... with the keys {keys}")
                continue
            try:
                yield Override(option, (section, key), parse_yaml(value, option).data)
            except ConfigError as error:
                problems += error.problems


def _fields(path: KeyPath) -> list[str]:
    """Returns the keys of a section."""
    section = _SECTIONS.get(str(path[0]), EvaluationSettings) if path else EvaluationSettings
    return list(section.model_fields)


def _keys(path: KeyPath) -> str:
    return ", ".join(_fields(path))
