"""Mixes the scores of a model with those of another one that come from a file."""

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.ngram_scores import next_scores, read_other_scores
from ptblm.evaluation.mixture import mixture, mixture_weight
from ptblm.evaluation.score import perplexity

_LOGGER = logging.getLogger(__name__)

Nll = NDArray[np.float64]
T = TypeVar("T")


def mixed(
    sentences: Iterable[tuple[T, list[str], Nll, str]], path: str, weight: float | None
) -> Iterator[tuple[T, Nll]]:
    """Yields sentences with the -log p of the mixture of two models, in nats.

    Args:
        sentences: for each sentence, any object, the words, -log p of each word and of the end of
            the sentence in nats, and its file and line for messages.
        path: the scores of the other model for the same sentences; see `corpus/ngram_scores.py`.
        weight: weight of the model; None selects the weight that maximizes the likelihood of the
            sentences, for which all of them are kept in memory.

    Raises:
        DataError: if the file cannot be read, or does not contain the same sentences.
    """
    pairs = _paired(sentences, path)
    if weight is None:
        kept = list(pairs)
        weight = _best_weight([(nll, other) for _, nll, other in kept])
        pairs = iter(kept)
    for item, nll, other in pairs:
        yield item, mixture(nll, other, weight)


def _paired(
    sentences: Iterable[tuple[T, list[str], Nll, str]], path: str
) -> Iterator[tuple[T, Nll, Nll]]:
    others = read_other_scores(path)
    for item, words, nll, where in sentences:
        yield item, nll, next_scores(others, words, where).nll
    rest = next(others, None)
    if rest is not None:
        raise rest.row.error("the file contains scores of more sentences than are scored")


def _best_weight(pairs: list[tuple[Nll, Nll]]) -> float:
    if not pairs:
        return 1.0
    nll, other = (np.concatenate(each) for each in zip(*pairs, strict=True))
    weight = mixture_weight(nll, other)
    values = (nll, other, mixture(nll, other, weight))
    ours, theirs, both = (f"{perplexity(float(each.sum()), len(each)):.2f}" for each in values)
    _LOGGER.info(
        "mixture weight %.4f; perplexity %s of the model, %s of the other one, %s of the mixture",
        weight,
        ours,
        theirs,
        both,
    )
    return weight
