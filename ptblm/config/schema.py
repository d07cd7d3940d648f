"""The schema of a config: every key with its type, bounds, default and description.

Each part of ptblm receives only its own section. The defaults are the values of the small config,
so a config file lists only the keys that differ. `ptblm config show` prints the descriptions as
comments.
"""

from collections.abc import Iterator
from typing import NamedTuple, get_args

from ptblm.config.data import DataConfig
from ptblm.config.model import ModelConfig
from ptblm.config.run import RunConfig
from ptblm.config.section import Section, Variant
from ptblm.config.training import TrainingConfig
from ptblm.config.yaml_document import KeyPath


class Config(Section):
    """All settings of a run, as written to config.yaml and to every checkpoint."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    run: RunConfig = RunConfig()


# The section that a number can stand for.
NUMBER_OR_SECTION: KeyPath = ("model", "dropout")


class VariantKey(NamedTuple):
    """A key whose value is one of several variants.

    Attributes:
        default: name of the default variant.
        options: option names of each built-in variant; custom cells are not included.
    """

    default: str
    options: dict[str, list[str]]


def _sections(parent: Section, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for name, field in type(parent).model_fields.items():
        section = field.default
        if isinstance(section, Section) and not isinstance(section, Variant):
            yield prefix + name, list(type(section).model_fields)
            yield from _sections(section, f"{prefix}{name}.")


# Maps the name of each section, such as "model" or "data.vocabulary", to its keys.
SECTIONS: dict[str, list[str]] = dict(_sections(Config()))


def _variant_keys() -> Iterator[tuple[KeyPath, VariantKey]]:
    for name, section in Config.model_fields.items():
        for key, field in type(section.default).model_fields.items():
            if isinstance(field.default, Variant):
                classes = [get_args(member)[0] for member in get_args(field.annotation)]
                options = {
                    variant.model_fields["type"].default: list(variant.model_fields)[1:]
                    for variant in classes
                    if not variant.model_fields["type"].is_required()
                }
                yield (name, key), VariantKey(field.default.type, options)


VARIANT_KEYS: dict[KeyPath, VariantKey] = dict(_variant_keys())
