"""A config as a document: resolved, with each key's meaning beside it."""

import json
import textwrap
from typing import Any

from pydantic import BaseModel

from ptblm.config.schema import Config
from ptblm.config.yaml_document import parse_yaml
from ptblm.errors import ConfigError


def config_document(config: Config) -> str:
    """YAML text of `config` that loads back as the same config, each key explained."""
    blocks = [_section(name, getattr(config, name)) for name in Config.model_fields]
    return "\n".join(blocks)


def _section(name: str, section: BaseModel) -> str:
    lines = [f"# {(type(section).__doc__ or '').splitlines()[0]}", f"{name}:"]
    for key, field in type(section).model_fields.items():
        lines += textwrap.wrap(
            field.description or "", width=96, initial_indent="  # ", subsequent_indent="  # "
        )
        lines.append(f"  {key}: {_scalar(getattr(section, key))}")
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    """`value` as YAML: bare where it reads back as itself, otherwise quoted as JSON."""
    if isinstance(value, str):
        try:
            if parse_yaml(value, "").data == value:
                return value
        except ConfigError:
            pass
    return json.dumps(value, ensure_ascii=False)
