"""Writes a config as YAML, with the description of every key as a comment."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from ptblm.config.schema import Config
from ptblm.config.section import Section, Variant
from ptblm.config.yaml_document import parse_yaml
from ptblm.errors import ConfigError
from ptblm.terminal import escape


def config_document(config: Config) -> str:
    """Returns YAML text that loads back as `config` and contains only the keys that apply."""
    sections = ((name, getattr(config, name)) for name in Config.model_fields)
    blocks = [
        "\n".join([f"# {_summary(section)}", f"{name}:", *_lines(section, "  ")])
        for name, section in sections
    ]
    return "\n\n".join(blocks) + "\n"


def _lines(section: Section, indent: str) -> Iterator[str]:
    descriptions = {
        name: field.description or "" for name, field in type(section).model_fields.items()
    }
    if isinstance(section, Variant):
        descriptions["type"] = _summary(section)
    for name in [*descriptions, *(section.model_extra or {})]:
        comment = f"{indent}# "
        yield from textwrap.wrap(
            descriptions.get(name, ""),
            width=96,
            initial_indent=comment,
            subsequent_indent=comment,
        )
        value = (
            getattr(section, name) if name in descriptions else (section.model_extra or {})[name]
        )
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{_scalar(name)}: {_scalar(value)}"


def _summary(section: Section) -> str:
    return (type(section).__doc__ or "").splitlines()[0]


def _scalar(value: Any) -> str:
    """Returns `value` as YAML: unquoted if it parses to the same value, otherwise as JSON.

    YAML has the same escapes as `escape`, and allows few of the characters that are not printable.
    """
    if isinstance(value, str) and value.isprintable():
        try:
            if parse_yaml(value, "").data == value:
                return value
        except ConfigError:
            pass
    return escape(json.dumps(value, ensure_ascii=False))
