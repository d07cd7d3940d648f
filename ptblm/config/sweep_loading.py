"""Loads a sweep, and checks the values that it can draw against the schema of configs."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ptblm.config.loading import read_config, without_tag
from ptblm.config.overrides import apply_overrides
from ptblm.config.problems import explain, show_value
from ptblm.config.schema import VARIANT_KEYS, Config
from ptblm.config.section import Section, variant_type
from ptblm.config.sweep import (
    HyperbandPruner,
    MedianPruner,
    NoPruner,
    Range,
    RepeatBest,
    SweepConfig,
)
from ptblm.config.sweep_space import Draw, Parameter, Sweep
from ptblm.config.yaml_document import (
    MAX_PROBLEMS,
    Locations,
    YamlDocument,
    first_problems,
    parse_yaml,
    read_text,
)
from ptblm.errors import ConfigError

_HINT = "see Sweeps in docs/guide.md"
_SECTIONS: dict[str, type[Section]] = {
    "range": Range,
    "median": MedianPruner,
    "hyperband": HyperbandPruner,
    "none": NoPruner,
    "repeat_best": RepeatBest,
}


def load_sweep(path: Path) -> Sweep:
    """Loads a sweep.

    Args:
        path: the file.

    Raises:
        ConfigError: with every problem of the sweep and of the configs it can draw, each with its
            location.
    """
    text = read_text(path, "sweep", _HINT)
    document = parse_yaml(text, str(path))
    locations: Locations = {(): str(path), **document.locations}
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        expected = f"expected the keys of a sweep ({', '.join(SweepConfig.model_fields)})"
        raise ConfigError(f"{locations[()]}: {expected}, got {show_value(data)}", hint=_HINT)
    try:
        settings = SweepConfig.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [_explain(each, locations) for each in found[:MAX_PROBLEMS]]
        raise ConfigError(first_problems(problems, len(found)), hint=_HINT) from None
    values = sorted(settings.space.items(), key=lambda item: not _chooses_variant(item[0]))
    parameters = [Parameter(key, value) for key, value in values]
    sweep = Sweep(settings, _document(settings, locations), parameters, locations, text)
    sweep.config({})  # the config itself is valid
    problems = [*_settings_problems(sweep), *_space_problems(sweep)]
    if problems:
        raise ConfigError(first_problems(problems[:MAX_PROBLEMS], len(problems)))
    integers = [each._replace(is_integer=_is_integer(sweep, each)) for each in parameters]
    sweep = replace(sweep, parameters=integers)
    if settings.sampler == "grid":
        sweep.grid()  # checks its size
    return sweep


def _chooses_variant(key: str) -> bool:
    return tuple(key.removesuffix(".type").split(".")) in VARIANT_KEYS


def _document(settings: SweepConfig, locations: Locations) -> YamlDocument:
    """Returns the content of the config that the sweep varies."""
    try:
        return read_config(settings.config)
    except ConfigError as error:
        place = locations.get(("config",), locations[()])
        problems = [f"{place}: config: {problem}" for problem in error.problems]
        raise ConfigError(problems, where=error.where, hint=error.hint) from None


def _settings_problems(sweep: Sweep) -> Iterator[str]:
    """Yields the problems of the keys of the sweep that depend on each other."""
    is_grid = sweep.settings.sampler == "grid"
    if not is_grid and sweep.settings.trials is None:
        yield f"{sweep.locations[()]}: trials: missing; only a grid ends without it"
    for parameter in sweep.parameters:
        place, values = sweep.locations[("space", parameter.key)], parameter.values
        if parameter.path[0] == "data":
            reason = "perplexities of different texts or vocabularies cannot be compared"
            yield f"{place}: {parameter.key}: {reason}; use `set` for all trials"
        if isinstance(values, list):
            if len(set(map(repr, values))) < len(values):
                yield f"{place}: {parameter.key}: a choice occurs twice"
        elif is_grid and (values.log or not _has_points(values)):
            yield f"{place}: {parameter.key}: a grid needs a list of choices, or a step"


def _has_points(values: Range) -> bool:
    return values.step is not None or (isinstance(values.low, int) and isinstance(values.high, int))


def _space_problems(sweep: Sweep) -> list[str]:
    """Returns the problems of configs in which one key has an extreme value.

    The other keys have their first or lowest values, or their last or highest ones.
    """
    problems = []
    for parameter in sweep.parameters:
        for value in parameter.extremes:
            for end in (0, -1):
                try:
                    sweep.config(_corner(sweep, parameter, value, end))
                except ConfigError as error:
                    problems += error.problems
        values = parameter.values
        if isinstance(values, Range) and isinstance(values.step, float):
            place = sweep.locations[("space", parameter.key, "step")]
            if _is_integer(sweep, parameter):
                problems.append(f"{place}: {parameter.key}: expected a step that is a whole number")
    return list(dict.fromkeys(problems))


def _corner(sweep: Sweep, parameter: Parameter, value: object, end: int) -> Draw:
    """Returns a draw with one given value, in which the variants are those that its key needs."""
    draw: Draw = {}
    for each in sweep.parameters:
        if each.key == parameter.key:
            draw[each.key] = value
        elif sweep.is_drawn(each, draw):
            fitting = [
                choice
                for choice in each.extremes
                if sweep.is_drawn(parameter, {**draw, each.key: choice})
            ]
            draw[each.key] = (fitting or each.extremes)[end]
    return draw


def _is_integer(sweep: Sweep, parameter: Parameter) -> bool:
    """Returns whether the key of a range accepts whole numbers only."""
    if isinstance(parameter.values, list):
        return False
    data = copy.deepcopy(sweep.document.data or {})
    apply_overrides(data, {}, sweep.overrides(_corner(sweep, parameter, 0.5, 0)), [])
    try:
        Config.model_validate(data)
    except ValidationError as error:
        return any(
            each["type"].startswith("int") and without_tag(each["loc"])[0] == parameter.path
            for each in error.errors(include_url=False)
        )
    return False


def _explain(details: ErrorDetails, locations: Locations) -> str:
    """Formats an error in a key of the sweep as one line: location, key and problem."""
    loc, context = list(details["loc"]), details.get("ctx", {})
    name = str(loc[0])
    tag = {"space": 2, "pruner": 1}.get(name, len(loc))  # index of the name of the variant
    if tag < len(loc):
        name = str(loc.pop(tag))
    if "key" in context:
        loc.append(context["key"])
    kind = details["type"]
    expected = {
        "union_tag_not_found": "expected a list of choices, or a section with low and high",
        "union_tag_invalid": "expected median, hyperband or none",
        "option": context.get("problem"),
    }.get(kind)
    if expected is None:
        section = _SECTIONS.get(name, SweepConfig)
        renamed: ErrorDetails = {**details, "loc": tuple(loc)}
        return explain(renamed, locations, lambda _: list(section.model_fields))
    paths = [tuple(loc[:count]) for count in range(len(loc), -1, -1)]
    place = next(locations[path] for path in paths if path in locations)
    given = context.get("value", details["input"])
    value = show_value(variant_type(given) or given)
    return f"{place}: {'.'.join(map(str, loc))}: {expected}, got {value}"
