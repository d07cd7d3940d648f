"""The unigram model of a vocabulary: the probability of a token without its context."""

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import Vocabulary


def unigram_nll(vocabulary: Vocabulary) -> NDArray[np.float64]:
    """Returns -log p of each token in nats, [V], from its training count.

    One is added to each count, so that the probability of a token that does not occur in the
    training split, such as `<unk>` of a character model, is not 0.

    Args:
        vocabulary: the vocabulary with training counts.

    Raises:
        ValueError: if all counts are 0, because the training counts are not known.
    """
    counts = np.array(vocabulary.counts, dtype=np.float64)
    if not counts.any():
        raise ValueError("the vocabulary has no training counts")
    smoothed: NDArray[np.float64] = np.log(counts.sum() + len(counts)) - np.log(counts + 1)
    return smoothed


def unigram_table(vocabulary: Vocabulary) -> NDArray[np.float64]:
    """Returns -log p of each token in nats, [V]; NaN if the training counts are not known."""
    try:
        return unigram_nll(vocabulary)
    except ValueError:
        return np.full(len(vocabulary), np.nan)
