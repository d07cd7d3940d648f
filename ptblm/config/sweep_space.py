"""The space of a sweep: which values can be drawn together, and the configs that they give."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ptblm.config.loading import validate_with
from ptblm.config.overrides import Override, single_keys
from ptblm.config.schema import VARIANT_KEYS, Config
from ptblm.config.section import variant_type
from ptblm.config.sweep import Range, SweepConfig
from ptblm.config.yaml_document import KeyPath, Locations, YamlDocument
from ptblm.errors import ConfigError

MAX_POINTS = 10_000  # of a grid

Draw = dict[str, Any]  # the drawn value of each key


class Parameter(NamedTuple):
    """A key of the space.

    Attributes:
        key: the key, such as "model.dropout".
        values: a range, or a list of choices.
        is_integer: whether a range contains whole numbers only.
    """

    key: str
    values: Range | list[Any]
    is_integer: bool = False

    @property
    def path(self) -> KeyPath:
        """The parts of the key."""
        return tuple(self.key.split("."))

    @property
    def extremes(self) -> list[Any]:
        """The values to check: both ends of a range, or all choices."""
        return self.values if isinstance(self.values, list) else [self.values.low, self.values.high]

    @property
    def points(self) -> Sequence[Any]:
        """All values of a list, or of a range with steps."""
        if isinstance(self.values, list):
            return self.values
        low, step = self.values.low, self.values.step or 1
        count = round((self.values.high - low) / step) + 1
        numbers = range(min(count, MAX_POINTS + 1))
        return [low + step * n if type(step) is int else round(low + step * n, 12) for n in numbers]


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
        settings: the keys of the sweep.
        document: the content of the config, without the overrides of `set`.
        parameters: the keys of the space; the choice of a variant is before the variant's options.
        locations: where each value of the space is in the file.
        text: the content of the file.
    """

    settings: SweepConfig
    document: YamlDocument
    parameters: list[Parameter]
    locations: Locations
    text: str

    def is_drawn(self, parameter: Parameter, draw: Mapping[str, Any]) -> bool:
        """Returns whether a key belongs to the variants that were drawn before it.

        An option of a variant, such as "model.cell.reset_gate", is drawn only if the variant is.
        """
        *parent, option = map(str, parameter.path)
        if tuple(parent) not in VARIANT_KEYS or option == "type":
            return True
        key = ".".join(parent)
        value = draw.get(key, draw.get(f"{key}.type"))
        variant = value if isinstance(value, str) else variant_type(value)
        options = VARIANT_KEYS[tuple(parent)].options
        return variant not in options or option in options[variant]

    def config(self, draw: Draw) -> Config:
        """Returns the config of drawn values.

        Raises:
            ConfigError: if the values cannot be combined. Each problem has its location.
        """
        return validate_with(copy.deepcopy(self.document), self.overrides(draw), [])

    def overrides(self, draw: Draw) -> Iterator[Override]:
        """Yields the overrides of `set` and of drawn values, with locations as their options."""
        for key, value in self.settings.set.items():
            yield from self._override(("set", key), key, value)
        for key, value in draw.items():
            yield from self._override(self._place(key, value), key, value)

    def _override(self, place: KeyPath, key: str, value: Any) -> Iterator[Override]:
        location = self.locations.get(place, self.locations[()])
        yield from single_keys(Override(str(location), tuple(key.split(".")), value))

    def _place(self, key: str, value: Any) -> KeyPath:
        values = next(each.values for each in self.parameters if each.key == key)
        if isinstance(values, Range):
            end = {values.low: "low", values.high: "high"}.get(value)
            return ("space", key, end) if end else ("space", key)
        return ("space", key, values.index(value)) if value in values else ("space", key)

    def grid(self) -> list[Draw]:
        """All combinations of the values.

        Raises:
            ConfigError: if there are more than 10,000.
        """
        draws: list[Draw] = [{}]
        for parameter in self.parameters:
            longer: list[Draw] = []
            for draw in draws:
                is_drawn = self.is_drawn(parameter, draw)
                points = parameter.points if is_drawn else ()
                longer += [{**draw, parameter.key: point} for point in points] or [draw]
                if len(longer) > MAX_POINTS:
                    place = self.locations[("space",)]
                    raise ConfigError(f"{place}: space: a grid of more than {MAX_POINTS:,} points")
            draws = longer
        return draws


def encoded(choice: Any) -> bool | int | float | str | None:
    """Returns a choice as a value that a study can store: lists and sections become JSON."""
    return json.dumps(choice) if isinstance(choice, dict | list) else choice
