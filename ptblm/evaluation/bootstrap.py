"""A confidence interval for the ratio of two perplexities on the same text.

Both models have scored the same sentences, so their difference is resampled sentence by sentence
(paired bootstrap: Efron & Tibshirani 1993, An Introduction to the Bootstrap).

Shapes: S sentences.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptblm.evaluation.score import perplexity

_LEVEL = 95  # percent
_MAX_GROUPS = 20_000
_DRAWS_AT_ONCE = 2**20


class RatioInterval(NamedTuple):
    """The ratio of two perplexities, with a confidence interval of 95%.

    Attributes:
        ratio: perplexity of the first model, divided by that of the second model.
        low: lower end of the interval.
        high: upper end of the interval.
        sentences: number of sentences.
    """

    ratio: float
    low: float
    high: float
    sentences: int


def perplexity_ratio(
    nll: NDArray[np.float64],
    other_nll: NDArray[np.float64],
    tokens: NDArray[np.int64],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> RatioInterval:
    """Returns the ratio of the perplexities of two models on the same sentences.

    The interval contains the middle 95% of the ratios in texts that are resampled from the
    sentences. In a text of more than 20,000 sentences, neighbors are resampled together.

    Args:
        nll: -log p of each sentence with the first model, [S], in nats.
        other_nll: -log p of each sentence with the second model, [S].
        tokens: number of tokens of each sentence, at least 1, [S].
        resamples: number of resampled texts.
        seed: random seed.
    """
    sentences = len(tokens)
    starts = np.arange(0, sentences, -(-sentences // _MAX_GROUPS))
    difference, size = (np.add.reduceat(x, starts) for x in (nll - other_nll, tokens))
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // len(size))
    ratios = []
    for done in range(0, resamples, at_once):
        count = min(at_once, resamples - done)
        drawn = generator.integers(len(size), size=(count, len(size)))
        ratios.append(difference[drawn].sum(axis=1) / size[drawn].sum(axis=1))
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(np.concatenate(ratios), [tail, 100 - tail])
    ratio = perplexity(difference.sum(), size.sum())
    return RatioInterval(ratio, perplexity(low, 1), perplexity(high, 1), sentences)
