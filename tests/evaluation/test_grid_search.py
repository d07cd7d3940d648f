"""The grid search finds minima inside and beyond its grid, and reports edges."""

import math

import pytest

from ptblm.evaluation.grid_search import Axis, Point, search

TEMPERATURE = Axis("t", (0.5, 1.0, 2.0), low=0.1, high=50, refinements=3)


def bowl(*minimum: float) -> object:
    """A function whose minimum is at a point, in the distance of logarithms."""

    def evaluate(points: list[Point]) -> list[float]:
        return [
            sum(math.log(value / best) ** 2 for value, best in zip(point, minimum, strict=True))
            for point in points
        ]

    return evaluate


@pytest.mark.parametrize("minimum", [0.2, 0.6, 1.0, 1.3, 7.0, 30.0])
def test_minimum_within_and_beyond_the_grid(minimum: float) -> None:
    found = search([TEMPERATURE], bowl(minimum))  # type: ignore[arg-type]
    assert found.best[0] == pytest.approx(minimum, rel=0.1)
    assert found.value == min(found.tried.values())
    assert found.edges == []


def test_grid_is_widened_for_each_axis_alone() -> None:
    axes = [Axis("a", (1.0, 2.0), 0.01, 100, refinements=2), Axis("b", (1.0, 3.0), 0.01, 100)]
    found = search(axes, bowl(6.0, 0.2))  # type: ignore[arg-type]
    assert found.best[0] == pytest.approx(6, rel=0.2)
    assert found.best[1] in (pytest.approx(1 / 9, rel=1e-3), pytest.approx(1 / 3, rel=1e-3))


def test_minimum_beyond_all_widenings_is_reported() -> None:
    found = search([Axis("a", (1.0, 1.1), 1e-9, 1e9)], bowl(1e6))  # type: ignore[arg-type]
    assert found.edges == ["a"]
    assert found.best[0] == max(point[0] for point in found.tried)
    assert found.best[0] == pytest.approx(1.1**9, rel=1e-3)


def test_bound_is_not_an_edge() -> None:
    """A setting cannot be larger than its bound, so there is nothing to report."""
    found = search([Axis("a", (1.0, 2.0), 1, 3)], bowl(1000.0))  # type: ignore[arg-type]
    assert found.best == (3.0,)
    assert found.edges == []


def test_each_point_is_tried_once_and_integers_stay_integers() -> None:
    seen: list[Point] = []

    def evaluate(points: list[Point]) -> list[float]:
        seen.extend(points)
        return [abs(point[0] - 70) for point in points]

    found = search(
        [Axis("window", (10.0, 100.0), 1, 1000, refinements=4, is_integer=True)], evaluate
    )
    assert len(seen) == len(set(seen)) == len(found.tried)
    assert all(point[0] == int(point[0]) for point in seen)
    assert found.best[0] == pytest.approx(70, abs=8)


def test_values_that_are_not_numbers_are_never_best() -> None:
    found = search([TEMPERATURE], lambda points: [math.nan if p[0] > 1 else -p[0] for p in points])
    assert found.best == (1.0,)
    assert math.inf in found.tried.values()
