"""Finds the weights that give the lowest word error rate on n-best lists with references.

The word error rate is constant between jumps, so it has no gradient. A grid over all combinations
comes first, then a finer grid around the best weights of the language model.

Shapes: N hypotheses of U utterances.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ptblm.evaluation.combination import Candidates, Weights, totals

_WEIGHTS = [round(0.05 * index, 2) for index in range(21)]
# Without an old language model the weight has no natural bound.
_UNBOUNDED_WEIGHTS = [*_WEIGHTS, *(round(0.1 * index, 1) for index in range(11, 31))]
_SCALES = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0]
_PENALTIES = [0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0]
_REFINED = [round(0.01 * index, 2) for index in range(-10, 11)]
_REFINED_POINTS = 5  # the best points of the grid


@dataclass(frozen=True)
class TunedWeights:
    """The result of a search for weights.

    Attributes:
        weights: the best weights.
        before: word errors without the new language model.
        after: word errors with the best weights.
        oracle: word errors if the hypothesis with the fewest were selected for each utterance.
    """

    weights: Weights
    before: int
    after: int
    oracle: int


def tune(
    candidates: Candidates,
    errors: NDArray[np.int64],
    starts: NDArray[np.int64],
    initial: Weights,
    fixed: Iterable[str] = (),
) -> TunedWeights:
    """Searches for the weights with the fewest word errors.

    Of equally good weights, those with the smallest weight of the language model win, then those
    with the smallest penalty, then those whose scale is nearest to the initial one.

    Args:
        candidates: the scores.
        errors: word errors of each hypothesis, [N].
        starts: index of the first hypothesis of each utterance, [U].
        initial: weights before the search.
        fixed: names of the weights that keep their initial value.
    """
    fixed = set(fixed)
    has_old = bool(candidates.old.any())

    def counted(weights: Weights) -> int:
        return int(errors[best(totals(candidates, weights), starts)].sum())

    def rank(found: tuple[int, Weights]) -> tuple[float, ...]:
        count, weights = found
        distance = abs(weights.scale - initial.scale)
        return count, weights.weight, abs(weights.penalty), distance, weights.penalty

    def values(name: str, options: Sequence[float]) -> list[float]:
        start = getattr(initial, name)
        return [start] if name in fixed else sorted({*options, start})

    before = counted(replace(initial, weight=0.0))
    grid = product(
        values("weight", _WEIGHTS if has_old else _UNBOUNDED_WEIGHTS),
        # Without an old score, the scale and the weight are one factor.
        values("scale", _SCALES if has_old else []),
        values("penalty", _PENALTIES),
    )
    found = [(counted(weights), weights) for weights in (Weights(*point) for point in grid)]
    points = sorted(found, key=rank)[:_REFINED_POINTS]
    highest = 1.0 if has_old else np.inf
    for _, point in points:
        near = [] if "weight" in fixed else [round(point.weight + step, 2) for step in _REFINED]
        refined = [replace(point, weight=each) for each in near if 0 <= each <= highest]
        found += [(counted(weights), weights) for weights in refined]
    after, weights = min(found, key=rank)
    return TunedWeights(weights, before, after, int(np.minimum.reduceat(errors, starts).sum()))


def best(scores: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the index of the best hypothesis of each utterance, [U]; of equals, the first.

    Args:
        scores: total score of each hypothesis, [N].
        starts: index of the first hypothesis of each utterance, [U].
    """
    sizes = np.diff(starts, append=len(scores))
    is_best = scores == np.repeat(np.maximum.reduceat(scores, starts), sizes)
    order = np.where(is_best, np.arange(len(scores)), len(scores))
    return np.minimum.reduceat(order, starts)
