"""Combines the scores of a recognizer with those of a language model, hypothesis by hypothesis.

    language = weight * new + (1 - weight) * old
    total    = acoustic + scale * (language + graph) + penalty * length

These are log-linear, as in Kaldi's recipes, SRILM and TheanoLM. If a list has no language model
score, `old` is 0 and the total is that of NeMo's rescoring.

Shape: N hypotheses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """How scores are combined.

    Attributes:
        weight: weight of the new language model.
        scale: factor of the language model score.
        penalty: score added for each word.
    """

    weight: float
    scale: float
    penalty: float

    @property
    def changes_nothing(self) -> bool:
        """Whether the scores of a list stay as they are."""
        return self.weight == 0 and self.penalty == 0


@dataclass(frozen=True)
class Candidates:
    """Scores of hypotheses, in one base.

    Attributes:
        acoustic: scores without those of a language model, [N].
        old: scores of the language model of the recognizer, [N].
        new: scores of the new language model, [N].
        length: words or characters, [N].
        graph: scores of transitions and pronunciations, [N].
    """

    acoustic: Scores
    old: Scores
    new: Scores
    length: Scores
    graph: Scores


def language_scores(old: Scores, new: Scores, weight: float) -> Scores:
    """Returns the interpolated language model scores, [N]. An infinite score of weight 0 is 0."""
    if weight == 0:
        return old
    with np.errstate(over="ignore", invalid="ignore"):
        return new if weight == 1 else (1 - weight) * old + weight * new


def totals(candidates: Candidates, weights: Weights) -> Scores:
    """Returns the total score of each hypothesis, [N].

    Scores and weights that are too large give infinite totals. A sum of opposite infinities is
    -infinity, so that its hypothesis is not the best one.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        language = language_scores(candidates.old, candidates.new, weights.weight)
        language = language + candidates.graph
        # The product of 0 and an infinite score is not a number.
        scaled = weights.scale * language if weights.scale else np.zeros_like(language)
        total = candidates.acoustic + scaled + weights.penalty * candidates.length
    return np.where(np.isnan(total), -np.inf, total)
