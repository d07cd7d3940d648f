"""Finds the best values of a few settings on a grid that is widened and refined as needed."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

Point = tuple[float, ...]

# Steps from the best point of the grid to better neighbors, which may be beyond it.
_MAX_MOVES = 8
_DIGITS = 4  # significant digits of refined values


@dataclass(frozen=True)
class Axis:
    """The values of a setting that are tried.

    Attributes:
        name: name of the setting.
        values: the first values, in ascending order, greater than 0.
        low: smallest value.
        high: largest value.
        refinements: how many times the values around the best one are tried.
        is_integer: whether the values are integers.
    """

    name: str
    values: tuple[float, ...]
    low: float
    high: float
    refinements: int = 0
    is_integer: bool = False

    def rounded(self, value: float) -> float:
        """Returns a value within the bounds, with few digits."""
        value = min(max(value, self.low), self.high)
        return round(value) if self.is_integer else float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        best: the best point.
        value: its value.
        tried: all points in the order in which they were tried, with their values.
        edges: names of the axes whose best value is still at an edge of the grid, although the
            setting has no bound there.
    """

    best: Point
    value: float
    tried: dict[Point, float]
    edges: list[str]


def search(axes: Sequence[Axis], evaluate: Callable[[list[Point]], list[float]]) -> Found:
    """Minimizes a function.

    All combinations of the first values are tried, then the neighbors of the best point until it is
    the best of them. The neighbor of a value at an edge is beyond the grid, by the ratio of the two
    outermost values. Then the grid is refined with the geometric means of the best value and its
    neighbors.

    Args:
        axes: the settings.
        evaluate: returns the values of points; NaN counts as infinity.
    """
    tried: dict[Point, float] = {}

    def look(points: Iterable[Point]) -> None:
        new = [point for point in dict.fromkeys(points) if point not in tried]
        values = evaluate(new) if new else []
        tried.update(
            {p: math.inf if math.isnan(v) else v for p, v in zip(new, values, strict=True)}
        )

    def best() -> Point:
        return min(tried, key=lambda point: tried[point])

    look(product(*(axis.values for axis in axes)))
    for _ in range(_MAX_MOVES):
        point = best()
        look(
            (*point[:index], value, *point[index + 1 :])
            for index, axis in enumerate(axes)
            for value in _neighbors(axis, _values(tried, index), point[index])
        )
        if best() == point:
            break
    edges = []
    for index, axis in enumerate(axes):
        values = _values(tried, index)
        outside = set(_neighbors(axis, values, best()[index])) - set(values)
        edges += [axis.name] if outside else []
    for step in range(max(axis.refinements for axis in axes)):
        point = best()
        look(
            product(
                *(
                    _around(axis, _values(tried, index), point[index])
                    if step < axis.refinements
                    else [point[index]]
                    for index, axis in enumerate(axes)
                )
            )
        )
    return Found(best(), tried[best()], tried, edges)


def _values(tried: Iterable[Point], index: int) -> list[float]:
    return sorted({point[index] for point in tried})


def _neighbors(axis: Axis, values: list[float], value: float) -> list[float]:
    """Returns the next smaller and the next larger value, as far as the bounds allow."""
    at = values.index(value)
    if len(values) == 1:
        return []
    lower = values[at - 1] if at > 0 else axis.rounded(value * values[0] / values[1])
    last = len(values) - 1
    upper = values[at + 1] if at < last else axis.rounded(value * values[-1] / values[-2])
    return [each for each in (lower, upper) if each != value]


def _around(axis: Axis, values: list[float], value: float) -> list[float]:
    """Returns a value, and the geometric means of it and its neighbors."""
    neighbors = _neighbors(axis, values, value)
    return [value, *(axis.rounded(math.sqrt(value * each)) for each in neighbors)]
