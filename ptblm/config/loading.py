"""From a name or a file, and overrides, to a checked config, with all its problems at once."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ptblm.config.schema import Config
from ptblm.config.tutorial_names import explain_unknown_key
from ptblm.config.yaml_document import YamlDocument, parse_yaml
from ptblm.errors import ConfigError
from ptblm.shipped import shipped_directory

MAX_CONFIG_BYTES = 1_000_000
_WHAT_CONFIG_TAKES = "small, medium, large, char, test, or the path of a YAML file"


KeyPath = tuple[str | int, ...]


class _Option(NamedTuple):
    """One value from the command line: as typed, for which key, and what."""

    place: str
    path: tuple[str, ...]
    value: object


def shipped_configs() -> dict[str, Path]:
    """The configs that came with ptblm, by name, in the order in which to meet them."""
    paths = {path.stem: path for path in shipped_directory("configs").glob("*.yaml")}
    names = ("small", "medium", "large", "char", "test")
    order = {name: place for place, name in enumerate(names)}
    return {name: paths[name] for name in sorted(paths, key=lambda n: (order.get(n, 9), n))}


def load_config(
    source: str, overrides: Sequence[str] = (), flags: Mapping[str, object] | None = None
) -> Config:
    """Loads a config.

    Args:
        source: a shipped config's name, or a YAML file's path.
        overrides: "key=value" texts ("model.hidden_size=400"); values are read as YAML.
        flags: values by key ("training.seed") that come from options of their own; None for
            those that were not given.

    Raises:
        ConfigError: with every problem of the file and the overrides, each with its place.
    """
    path = _find(source)
    return validate(parse_yaml(_read(path), str(path)), overrides, flags)


def override_config(
    config: Config, overrides: Sequence[str], flags: Mapping[str, object] | None = None
) -> Config:
    """A config with overrides laid over it; as `load_config`."""
    return validate(YamlDocument(config.model_dump(), {}), overrides, flags)


def validate(
    document: YamlDocument,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Checks a document with overrides laid over it against the schema.

    Raises:
        ConfigError: with every problem, each with its place.
    """
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        place = document.locations.get((), "config")
        raise ConfigError(f"{place}: expected sections (data, model, training), got {_show(data)}")
    locations = dict(document.locations)
    problems: list[str] = []
    laid: dict[KeyPath, object] = {}
    for option in [*_flag_options(flags or {}), *_set_options(overrides, problems)]:
        if laid.setdefault(option.path, option.value) != option.value:
            first = locations.get(option.path, "an option before")
            problems.append(f"{option.place}: {first} says otherwise")
            continue
        try:
            _apply_override(data, option)
        except ConfigError as error:
            problems.append(error.what)
        else:
            locations[option.path] = option.place
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems += [_explain(details, locations) for details in error.errors()]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _flag_options(flags: Mapping[str, object]) -> Iterator[_Option]:
    for key, value in flags.items():
        section, name = key.split(".")
        if value is not None:
            yield _Option(f"--{section if name == 'path' else name}", (section, name), value)


def _set_options(texts: Sequence[str], problems: list[str]) -> Iterator[_Option]:
    """The options that "key=value" texts say; adds to `problems` what can't be read."""
    for text in texts:
        place = f"--set {text}"
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            problems.append(f"{place}: expected key=value, as in model.hidden_size=400")
            continue
        try:
            yield _Option(place, path, parse_yaml(value, place).data)
        except ConfigError as error:
            problems.append(error.what)


def _find(source: str) -> Path:
    configs = shipped_configs()
    if source in configs:
        return configs[source]
    path = Path(source)
    if path.exists():
        return path
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise ConfigError(f"{source}: no such config file", hint=_WHAT_CONFIG_TAKES)
    nearest = difflib.get_close_matches(source, configs, n=1)
    guess = f", did you mean '{nearest[0]}'?" if nearest else ""
    raise ConfigError(
        f"'{source}' is neither a shipped config nor a file{guess}", hint=_WHAT_CONFIG_TAKES
    )


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: too large for a config ({len(raw):,} bytes)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None


def _apply_override(data: dict[str, Any], option: _Option) -> None:
    """Writes an option's value into `data`."""
    if isinstance(option.value, dict):
        raise ConfigError(f"{option.place}: gives a whole section; give its keys one by one")
    *sections, key = option.path
    target = data
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"{option.place}: '{section}' is no section")
    target[key] = option.value


def _explain(details: ErrorDetails, locations: dict[KeyPath, str]) -> str:
    """One line for one of pydantic's errors: place, key, what is wrong."""
    path = details["loc"]
    place = next(
        (locations[path[:n]] for n in range(len(path), -1, -1) if path[:n] in locations), None
    )
    if details["type"] == "extra_forbidden":
        message = explain_unknown_key(path)
    else:
        message = f"{_reword(details)}, got {_show(details['input'])}"
    key = ".".join(str(part) for part in path)
    return ": ".join(part for part in (place, key, message) if part)


def _reword(details: ErrorDetails) -> str:
    """Pydantic's message in a user's words."""
    context = details.get("ctx", {})
    match details["type"]:
        case "model_type" | "dict_type":
            return "expected a section of keys"
        case "int_type" | "int_from_float":
            return "expected a whole number"
        case "float_type":
            return "expected a number"
        case "finite_number":
            return "expected a finite number"
        case "string_type":
            return "expected text"
        case "string_too_short":
            return "expected text, not nothing"
        case "string_pattern_mismatch" if details["loc"][-1] == "path":
            return "expected a path"
        case "string_unicode":
            return "expected text in UTF-8"
        case "literal_error":
            return f"expected {context['expected']}"
        case "string_pattern_mismatch" if details["loc"][-1] == "cell":
            return (
                "expected lstm, rnn, gru, slstm, janet, mogrifier or my_module:MyCell, "
                "a class in a file my_module.py"
            )
        case "string_pattern_mismatch" if details["loc"][-1] == "device":
            return "expected auto, cpu, cuda, cuda:N or mps"
        case "string_pattern_mismatch":
            return "expected '5 minutes' or '200 steps'"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return details["msg"].replace("Input should be", "must be")
        case _:
            return details["msg"]


def _show(value: Any) -> str:
    """A value as its writer wrote it, shortened."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
