"""Reads and parses YAML into plain data, and records the location of every key.

PyYAML follows YAML 1.1, where `1e-3` is a string, `no` is False, `010` is eight, and the last of
two equal keys silently wins. This parser follows the YAML 1.2 core schema, and a duplicate key is
an error that names both lines. It bounds depth and number of values while it reads, so that a
config from a stranger takes little time and memory.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ptblm.errors import ConfigError
from ptblm.files import open_regular, os_errors
from ptblm.terminal import counted

KeyPath = tuple[str | int, ...]  # keys of mappings and indexes of lists, from the outside

MAX_CONFIG_BYTES = 1_000_000  # of a file
MAX_PROBLEMS = 20  # that one message lists

_MAX_DEPTH = 20
_MAX_VALUES = 100_000
_MAX_DIRECTIVES = 100
_MAX_QUOTED = 60  # characters of a quoted key or value

# PyYAML's own parser locates errors more exactly, and libyaml is twenty times faster.
_MAX_EXACT = 50_000  # characters
_FAST_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_SCALAR_TAGS = [f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")]
_PLAIN_TAGS = {*_SCALAR_TAGS, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_CONSTRUCTORS = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in _SCALAR_TAGS}


class Location(NamedTuple):
    """A place in a file; as text "name:line:column"."""

    name: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}"


# Of a key by its path; a text for an option of the command line.
Locations = dict[KeyPath, Location | str]


class YamlDocument(NamedTuple):
    """Plain data, and the location of the key at each path."""

    data: Any
    locations: Locations


class _CoreSchemaLoader(yaml.SafeLoader):
    """Resolves scalars by the YAML 1.2 core schema instead of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


# The first pattern that matches decides, so integers come before floats.
for _tag, _pattern, _first in [
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(0|[1-9][0-9]*)$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", list("-+.")),
]:
    _CoreSchemaLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first
    )


def read_text(
    path: Path, what: str, hint: str, checkpoint_hint: Callable[[], str] | None = None
) -> str:
    """Reads a text file of at most 1 MB.

    Args:
        path: the file.
        what: name of its content in messages, such as "settings".
        hint: how such a file is made.
        checkpoint_hint: returns what to do with a checkpoint instead; None for `hint`.

    Raises:
        ConfigError: if it cannot be read, is too large, is a checkpoint, or is not UTF-8 text.
    """
    with (
        os_errors(ConfigError, f"the {what} cannot be read", where=path, hint=hint),
        open_regular(path) as file,
    ):
        raw = file.read(MAX_CONFIG_BYTES + 1)
    if path.suffix == ".safetensors" or raw[8:10] == b'{"':
        raise ConfigError(
            f"{path}: a checkpoint, not a {what} file",
            hint=checkpoint_hint() if checkpoint_hint else hint,
        )
    if len(raw) > MAX_CONFIG_BYTES:
        limit = f"{MAX_CONFIG_BYTES:,} bytes"
        raise ConfigError(f"{path}: too large for a {what} file (more than {limit})", hint=hint)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text", hint=hint) from None


def parse_yaml(text: str, name: str) -> YamlDocument:
    """Parses one YAML document.

    Args:
        text: the document.
        name: name of the document in messages, such as its file path.

    Raises:
        ConfigError: if the text is not valid YAML, repeats a key, uses aliases or custom tags, or
            contains too many values or levels.
    """
    if text.count("\n%") > _MAX_DIRECTIVES:  # libyaml compares each directive with all others
        raise ConfigError(f"{name}: not valid YAML: too many directives")
    parser = yaml.SafeLoader if len(text) <= _MAX_EXACT else _FAST_PARSER
    try:
        builder = _Builder(yaml.parse(text, Loader=parser), name)
        data = builder.document()
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in (error.problem or ""):  # a limit of libyaml
            raise _too_deep(name) from None
        place = _location(name, error.problem_mark) if error.problem_mark else name
        raise ConfigError(f"{place}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        is_reader_error = isinstance(error, yaml.reader.ReaderError)
        problem = str(error).partition("\n")[0] if is_reader_error else "special characters"
        raise ConfigError(f"{name}: not valid YAML: {problem}") from None
    if builder.problems:
        raise ConfigError(first_problems(builder.problems, len(builder.problems)))
    return YamlDocument(data, builder.locations)


def _location(name: str, mark: Any) -> Location:
    return Location(name, mark.line + 1, mark.column + 1)


def _too_deep(name: str) -> ConfigError:
    return ConfigError(f"{name}: nested too deeply (more than {_MAX_DEPTH} levels)")


def quote(value: object) -> str:
    """Returns a short representation of a value for messages."""
    return shorten(repr(value))


def shorten(text: str) -> str:
    """Returns the start of a text for messages."""
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."


def first_problems(problems: list[str], count: int) -> list[str]:
    """Returns the first problems of a config, and how many more of `count` there are."""
    more = count - MAX_PROBLEMS
    if more <= 0:
        return problems
    return [*problems[:MAX_PROBLEMS], f"and {counted(more, 'more problem')}"]


class _Builder:
    """Builds plain data from the events of a parser; records locations and collects problems."""

    def __init__(self, events: Iterator[yaml.Event], name: str) -> None:
        self.locations: Locations = {}
        self.problems: list[str] = []
        self._events = events
        self._name = name
        self._values = 0
        self._scalars = _CoreSchemaLoader("")  # resolves and constructs them

    def document(self) -> Any:
        """Returns the data of the only document; None if the text is empty."""
        next(self._events)  # start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        data = self._value(next(self._events), (), 0)
        next(self._events)  # end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            location = _location(self._name, event.start_mark)
            raise ConfigError(
                f"{location}: a config is one YAML document, and a second one starts here"
            )
        return data

    def _value(self, event: Any, path: KeyPath, depth: int) -> Any:
        location = _location(self._name, event.start_mark)
        self.locations.setdefault(path, location)
        self._values += 1
        if self._values > _MAX_VALUES:
            raise ConfigError(f"{location}: too many values (more than {_MAX_VALUES:,})")
        if depth > _MAX_DEPTH:
            raise _too_deep(self._name)
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not supported; repeat the value"
            self.problems.append(f"{location}: {problem}")
            return None
        if event.tag not in (None, "!", *_PLAIN_TAGS):
            problem = f"custom tags ({shorten(event.tag)}) are not supported"
            self.problems.append(f"{location}: {problem}")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return [
                self._value(item, (*path, index), depth + 1)
                for index, item in enumerate(self._until(yaml.SequenceEndEvent))
            ]
        return self._scalar(event, location)

    def _until(self, end: type[yaml.Event]) -> Iterator[Any]:
        """Yields the first event of each value in a collection."""
        return iter(lambda: None if isinstance(event := next(self._events), end) else event, None)

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            location = _location(self._name, event.start_mark)
            if not isinstance(event, yaml.ScalarEvent):
                self.problems.append(f"{location}: a key must be a string")
                self._value(event, path, depth + 1)
                self._value(next(self._events), path, depth + 1)
                continue
            key = event.value
            if key in result:
                first = self.locations[(*path, key)]
                line = first.line if isinstance(first, Location) else 0
                self.problems.append(
                    f"{location}: {quote(key)} is a duplicate key, first used on line {line}"
                )
            self.locations.setdefault((*path, key), location)
            result[key] = self._value(next(self._events), (*path, key), depth + 1)
        return result

    def _scalar(self, event: yaml.ScalarEvent, location: Location) -> Any:
        tag = event.tag
        if tag in (None, "!"):
            tag = self._scalars.resolve(  # type: ignore[no-untyped-call]
                yaml.ScalarNode, event.value, event.implicit
            )
        elif tag not in _PLAIN_TAGS:
            return None
        try:
            construct: Any = _CONSTRUCTORS[tag]
            return construct(self._scalars, yaml.ScalarNode(tag, event.value))
        except (ValueError, LookupError, TypeError):
            # An integer of 5,000 digits, `!!int x` or `!!map x`.
            self.problems.append(f"{location}: {quote(event.value)} is not a valid value")
            return None
