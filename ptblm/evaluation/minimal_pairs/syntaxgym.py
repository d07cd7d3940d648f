"""Reads test suites of SyntaxGym (Gauthier et al. 2020).

A suite contains items. The sentences of an item, one for each condition, are divided into regions.
Predictions compare the surprisals of regions; an item is right if the prediction is true.

Suites of the first version have predictions such as `{"relation": "greaterthan", "region_number":
3, "l_operand": "that", "r_operand": "what"}` instead of formulas.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptblm.errors import DataError
from ptblm.evaluation.minimal_pairs.formula import FormulaError, Operation, parse_formula, regions
from ptblm.evaluation.minimal_pairs.pair import Place, checked_text

_COMPUTE: dict[str, Callable[[NDArray[np.float64]], Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "median": np.median,
    "range": np.ptp,
    "max": np.max,
    "min": np.min,
}
METRICS = tuple(_COMPUTE)
_RELATIONS = {"greaterthan": ">", "lessthan": "<", "equal": "="}


@dataclass(frozen=True)
class Item:
    """The sentences of an item.

    Attributes:
        place: where the item is in its file.
        conditions: the regions of each condition in order: their numbers and texts. A text may be
            empty.
    """

    place: Place
    conditions: Mapping[str, list[tuple[int, str]]]


@dataclass(frozen=True)
class Suite:
    """A test suite.

    Attributes:
        name: name of the suite.
        metric: how the value of a region is computed from the surprisals of its tokens.
        predictions: the formulas.
        items: the items.
    """

    name: str
    metric: str
    predictions: list[Operation]
    items: list[Item]


def read_suite(content: dict[str, Any], file: str) -> Suite:
    """Returns the suite of a JSON document.

    Raises:
        DataError: if a part is missing or not valid, or a formula is about a region that an item
            does not have.
    """
    meta = _typed(content.get("meta"), dict, "meta", file)
    name = checked_text(meta.get("name"), "meta.name", file)
    predictions = [
        _prediction(_typed(each, dict, "a prediction", file), file)
        for each in _typed(content.get("predictions"), list, "predictions", file)
    ]
    items = [
        _item(_typed(each, dict, "an item", file), Place(file, number))
        for number, each in enumerate(_typed(content.get("items"), list, "items", file), start=1)
    ]
    for item in items:
        _check_regions(predictions, item)
    return Suite(name, _metric(meta.get("metric"), file), predictions, items)


def region_values(
    surprisals: NDArray[np.float64], sizes: list[int], metric: str
) -> NDArray[np.float64]:
    """Returns the value of each region of a sentence, [R].

    Args:
        surprisals: of the tokens of the sentence in bits, [N].
        sizes: number of tokens of each region, [R], whose sum is N. The value of an empty region is
            0.
        metric: one of `METRICS`.
    """
    compute = _COMPUTE[metric]
    parts = np.split(surprisals, np.cumsum(sizes)[:-1])
    return np.array([compute(part) if len(part) else 0.0 for part in parts])


def _prediction(content: dict[str, Any], file: str) -> Operation:
    text = content.get("formula")
    if text is None and "relation" in content:
        relation = _RELATIONS.get(str(content["relation"]))
        region, left, right = (
            content.get(name) for name in ("region_number", "l_operand", "r_operand")
        )
        if relation is None:
            raise DataError(
                f"unknown relation {str(content['relation'])[:60]!r}",
                where=file,
                hint=f"use one of {', '.join(_RELATIONS)}",
            )
        text = f"(({region};%{left}%) {relation} ({region};%{right}%))"
    try:
        return parse_formula(checked_text(text, "the formula of a prediction", file))
    except FormulaError as error:
        raise DataError(str(error), where=file) from None


def _metric(metric: Any, file: str) -> str:
    """Returns the metric of the formulas: the sum, unless the suite has only another one."""
    names = [metric] if isinstance(metric, str) else metric
    names = _typed(names, list, "meta.metric", file) or ["sum"]
    if "sum" in names or "all" in names:
        return "sum"
    if names[0] not in METRICS:
        raise DataError(
            f"unknown metric {str(names[0])[:60]!r}",
            where=file,
            hint=f"use one of {', '.join(METRICS)}",
        )
    return str(names[0])


def _item(content: dict[str, Any], place: Place) -> Item:
    where = f"{place.file}: item {place.number}"
    conditions: dict[str, list[tuple[int, str]]] = {}
    for each in _typed(content.get("conditions"), list, "conditions", where):
        condition = _typed(each, dict, "a condition", where)
        name = checked_text(condition.get("condition_name"), "condition_name", where)
        if name in conditions:
            raise DataError(f"the condition {name[:60]!r} occurs twice", where=where)
        found = [
            _region(_typed(region, dict, "a region", where), where)
            for region in _typed(condition.get("regions"), list, "regions", where)
        ]
        numbers = {number for number, _ in found}
        if len(numbers) < len(found) or not any(text for _, text in found):
            raise DataError(
                f"the condition {name[:60]!r} has no text, or a region twice", where=where
            )
        conditions[name] = found
    return Item(place, conditions)


def _region(content: dict[str, Any], where: str) -> tuple[int, str]:
    number = _typed(content.get("region_number"), int, "region_number", where)
    text = checked_text(content.get("content"), "content", where, may_be_empty=True)
    return number, text


def _check_regions(predictions: list[Operation], item: Item) -> None:
    where = f"{item.place.file}: item {item.place.number}"
    for prediction in predictions:
        for region in regions(prediction):
            if region.condition not in item.conditions:
                what = f"a formula is about the condition {region.condition[:60]!r}"
                raise DataError(f"{what}, which the item does not have", where=where)
            numbers = {number for number, _ in item.conditions[region.condition]}
            if region.number is not None and region.number not in numbers:
                what = f"a formula is about region {region.number}"
                raise DataError(f"{what} of {region.condition[:60]!r}, which has none", where=where)


def _typed(value: Any, kind: type, name: str, where: str) -> Any:
    """Returns a value of a JSON document.

    Raises:
        DataError: if it is not of this type.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {dict: "an object", list: "a list", int: "an integer"}
        raise DataError(f"{name} is missing or is not {names[kind]}", where=where)
    return value
