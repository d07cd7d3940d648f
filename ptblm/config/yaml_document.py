"""Parses YAML into plain data, and records the location of every key.

PyYAML follows YAML 1.1, where `1e-3` is a string, `no` is False, `010` is eight, and the last of
two equal keys silently wins. This parser follows the YAML 1.2 core schema, and a duplicate key is
an error that names both lines.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from ptblm.errors import ConfigError

Path = tuple[str | int, ...]

_MAX_DEPTH = 20
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "map", "seq")
}


@dataclass(frozen=True)
class YamlDocument:
    """Plain data and the location ("name:line:column") of the key at each path."""

    data: Any
    locations: dict[Path, str]


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


def parse_yaml(text: str, name: str) -> YamlDocument:
    """Parses one YAML document.

    Args:
        text: the document.
        name: name of the document in messages, such as its file path.

    Raises:
        ConfigError: if the text is not valid YAML, repeats a key, or uses aliases or custom tags.
    """
    try:
        loader = _CoreSchemaLoader(text)
        node = loader.get_single_node()
        walk = _Walk(loader, name)
        data = None if node is None else walk.build(node, (), 0)
    except yaml.MarkedYAMLError as error:
        place = _place(name, error.problem_mark) if error.problem_mark else name
        if error.problem == "but found another document":
            raise ConfigError(
                f"{place}: a config is one YAML document, and a second one starts here"
            ) from None
        raise ConfigError(f"{place}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"{name}: not valid YAML: {first_line}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    if walk.problems:
        raise ConfigError(walk.problems)
    return YamlDocument(data, walk.locations)


def _place(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


class _Walk:
    """Converts nodes to plain data; records locations and collects problems."""

    def __init__(self, loader: _CoreSchemaLoader, name: str) -> None:
        self.loader = loader
        self.name = name
        self.locations: dict[Path, str] = {}
        self.problems: list[str] = []
        self.seen: set[int] = set()

    def build(self, node: yaml.Node, path: Path, depth: int) -> Any:
        place = _place(self.name, node.start_mark)
        self.locations.setdefault(path, place)
        if id(node) in self.seen:
            self.problems.append(f"{place}: aliases (*name) are not supported; repeat the value")
            return None
        self.seen.add(id(node))
        if depth > _MAX_DEPTH:
            self.problems.append(f"{place}: nested too deeply")
            return None
        if node.tag not in _PLAIN_TAGS:
            self.problems.append(f"{place}: custom tags ({node.tag}) are not supported")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(self.name, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{place}: a key must be a string")
                continue
            key = key_node.value
            if key in result:
                first_line = self.locations[(*path, key)].split(":")[-2]
                self.problems.append(
                    f"{place}: '{key}' is a duplicate key, first used on line {first_line}"
                )
                continue
            self.locations[(*path, key)] = place
            result[key] = self.build(value_node, (*path, key), depth + 1)
        return result

    def _scalar(self, node: yaml.Node, place: str) -> Any:
        try:
            return self.loader.construct_object(node)
        except (ValueError, LookupError, TypeError):  # an integer of 5,000 digits, or `!!int x`
            self.problems.append(f"{place}: {node.value[:40]!r} is not a valid value")
            return None
