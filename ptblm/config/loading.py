"""Loads a config from a name or a file, applies overrides, and reports all problems at once."""

import itertools
import logging
import os.path
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ptblm.config.overrides import Override, apply_overrides, parse_overrides
from ptblm.config.problems import reword, show_value, show_wrong
from ptblm.config.schema import VARIANT_KEYS, Config
from ptblm.config.section import variant_type
from ptblm.config.unknown_keys import closest, explain_unknown_key, explain_unknown_variant
from ptblm.config.yaml_document import (
    MAX_PROBLEMS,
    KeyPath,
    Locations,
    YamlDocument,
    first_problems,
    parse_yaml,
    read_text,
    shorten,
)
from ptblm.errors import ConfigError
from ptblm.files import os_errors
from ptblm.paths import expand_path, shell_join
from ptblm.shipped import shipped_directory

logger = logging.getLogger(__name__)

_CONFIG_HINT = "pass a name that `ptblm config list` prints, or the path of a YAML file"
_ORDER = [
    *("small", "medium", "large", "small-tied", "medium-tied", "large-tied"),
    *("speedrun", "speedrun-large"),
    *("awd-lstm", "lstm-melis", "mogrifier", "rlstm", "char", "char-lstm", "test"),
]


def shipped_configs() -> dict[str, Path]:
    """Returns the paths of the shipped configs by name, in the recommended order."""
    paths = {path.stem: path for path in shipped_directory("configs").glob("*.yaml")}
    names = [name for name in _ORDER if name in paths]
    return {name: paths[name] for name in [*names, *sorted(paths.keys() - set(_ORDER))]}


def shipped_header(source: str) -> list[str]:
    """Returns the comment at the start of a shipped config: its source, cost and perplexity.

    The list is empty if `source` is not the name of a shipped config.
    """
    path = shipped_configs().get(source)
    lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
    return list(itertools.takewhile(lambda line: line.startswith("#"), lines))


def load_config(
    source: str, overrides: Sequence[str] = (), flags: Mapping[str, object] | None = None
) -> Config:
    """Loads a config.

    Args:
        source: name of a shipped config, or path of a YAML file.
        overrides: strings such as "model.hidden_size=400"; the values are YAML.
        flags: values of dedicated command-line options by key, such as "training.seed"; None for
            an option that was not passed.

    Raises:
        ConfigError: with every problem of the file and the overrides, each with its location.
    """
    return validate(read_config(source), overrides, flags)


def read_config(source: str) -> YamlDocument:
    """Reads a config, without its validation.

    Args:
        source: name of a shipped config, or path of a YAML file.

    Raises:
        ConfigError: if the config cannot be read, or is not valid YAML.
    """
    path = _find(source)
    logger.debug("reading the config %s", path)
    text = read_text(path, "config", _CONFIG_HINT, partial(_checkpoint_hint, path))
    return parse_yaml(text, str(path))


def override_config(
    config: Config, overrides: Sequence[str], flags: Mapping[str, object] | None = None
) -> Config:
    """Returns a copy of a config with overrides applied.

    See `load_config` for the arguments and errors.
    """
    return validate(YamlDocument(config.model_dump(), {}), overrides, flags)


def validate(
    document: YamlDocument,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Applies overrides to a document in place and validates the result.

    Raises:
        ConfigError: with every problem, each with its location.
    """
    problems: list[str] = []
    return validate_with(document, parse_overrides(overrides, flags or {}, problems), problems)


def validate_with(
    document: YamlDocument, overrides: Iterable[Override], problems: list[str]
) -> Config:
    """Applies overrides to a document in place and validates the result.

    Args:
        document: the document.
        overrides: the overrides.
        problems: those found so far; the iteration over `overrides` may add others.

    Raises:
        ConfigError: with every problem, each with its location.
    """
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        location = document.locations.get((), "config")
        expected = "expected sections (data, model, training, run)"
        raise ConfigError(f"{location}: {expected}, got {show_value(data)}")
    locations = dict(document.locations)
    apply_overrides(data, locations, overrides, problems)
    count, config = len(problems), None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        listed: set[KeyPath] = set()
        found = error.errors(include_url=False)
        count += len(found)
        problems += [_explain(details, locations, listed) for details in found[:MAX_PROBLEMS]]
    if config is None or problems:
        raise ConfigError(first_problems(problems, count))
    return config


def _find(source: str) -> Path:
    """Returns the path of a config.

    Raises:
        ConfigError: if there is no such config, or the path cannot be used.
    """
    configs = shipped_configs()
    if source in configs:
        return configs[source]
    path = expand_path(source)
    with os_errors(ConfigError, "the config cannot be read", where=source, hint=_CONFIG_HINT):
        if path.is_dir():
            hint = _config_of_run(path) or _CONFIG_HINT
            raise ConfigError(f"{source}: a directory, not a config file", hint=hint)
        if path.exists():
            return path
        where = os.path.abspath(path)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise ConfigError("no such config file", where=where, hint=_CONFIG_HINT)
    nearest = closest(source.lower(), configs)
    guess = f", did you mean '{nearest}'?" if nearest else ""
    raise ConfigError(
        f"'{source}' is neither a shipped config nor a file{guess}", where=where, hint=_CONFIG_HINT
    )


def _config_of_run(path: Path) -> str | None:
    """Returns where the config of a run is, for its directory or one of its checkpoints."""
    for parent in (path, *path.absolute().parents[:2]):
        if os.path.isfile(parent / "config.yaml"):
            return f"the config of this run is {parent / 'config.yaml'}"
    return None


def _checkpoint_hint(path: Path) -> str:
    """Returns what to do with a checkpoint in place of a config."""
    return (
        _config_of_run(path)
        or f"{_CONFIG_HINT}; --init {shell_join([str(path)])} uses the config and the weights"
    )


def _explain(details: ErrorDetails, locations: Locations, listed: set[KeyPath]) -> str:
    """Formats a pydantic error as one line: location, key and problem.

    Args:
        details: the error.
        locations: the location of each key.
        listed: see `explain_unknown_key`.
    """
    path, variant = without_tag(details["loc"])
    context = details.get("ctx", {})
    value = context.get("value", details["input"])
    if "key" in context:
        path = (*path, *context["key"].split("."))
    if details["type"] == "extra_forbidden":
        message = explain_unknown_key(path, variant, listed)
    elif details["type"] == "combination":  # its message contains the values of all keys
        message = details["msg"]
    elif details["type"] == "union_tag_invalid":
        name = variant_type(value)
        expected, guess = explain_unknown_variant(path, name)
        chosen = value["type"] if isinstance(value, dict) else value
        message = f"{expected}, got {show_value(chosen)}{guess}"
    else:
        message = f"{reword(details)}, got {show_wrong(value, details)}"
    key = ".".join(shorten(str(part)) for part in path)
    if details["type"] == "union_tag_invalid" and isinstance(value, dict):
        path = (*path, "type")
    location = next(
        (locations[path[:n]] for n in range(len(path), -1, -1) if path[:n] in locations), None
    )
    return ": ".join(str(part) for part in (location, key, message) if part)


def without_tag(location: KeyPath) -> tuple[KeyPath, str | None]:
    """Separates the name of the variant from the location of a pydantic error."""
    if location[:2] in VARIANT_KEYS and len(location) > 2:
        return (*location[:2], *location[3:]), str(location[2])
    return location, None
