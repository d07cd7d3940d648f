"""Mixes the scores of a model with those of another one that come from a file."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.lines import text_name
from ptblm.corpus.ngram_scores import next_scores, read_other_scores
from ptblm.errors import UsageError
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.evaluation.mixture import mixture, mixture_weight
from ptblm.evaluation.score import perplexity
from ptblm.run.load_model import LoadedModel

logger = logging.getLogger(__name__)

Nll = NDArray[np.float64]
T = TypeVar("T")


def check_words(loaded: LoadedModel, option: str) -> None:
    """Raises UsageError if the tokens of a model are not words, which an option needs."""
    unit = loaded.tokenizer.unit
    if unit != "word":
        raise UsageError(f"{option} needs a model of words; the tokens of this one are {unit}s")


def mixed_lines(
    lines: Iterable[ScoredLine], text: str, path: str, weight: float | None
) -> Iterator[ScoredLine]:
    """Yields the lines of a text with mixed scores; a line without words keeps its score.

    Args:
        lines: the lines, each scored as a sentence.
        text: a path, or "-" for standard input.
        path: see `mixed`. Empty sentences in the file are left out.
        weight: the weight.

    Raises:
        DataError: if the file cannot be read, or does not contain the same sentences.
    """
    name = text_name(text)
    sentences = (
        (each, each.line.tokens, each.scores.nll, f"{name}:{each.line.number}") for each in lines
    )
    for line, nll in mixed(sentences, path, weight, skip_empty=True):
        yield replace(line, scores=replace(line.scores, nll=nll))


def mixed(
    sentences: Iterable[tuple[T, list[str], Nll, str]],
    path: str,
    weight: float | None,
    *,
    skip_empty: bool = False,
) -> Iterator[tuple[T, Nll]]:
    """Yields sentences with the -log p of the mixture of two models, in nats.

    Args:
        sentences: for each sentence, any object, the words, -log p of each word and of the end of
            the sentence in nats, and its file and line for messages.
        path: the scores of the other model for the same sentences; see `corpus/ngram_scores.py`.
        weight: weight of the model; None selects the weight that maximizes the likelihood of the
            sentences, for which all of them are kept in memory.
        skip_empty: whether sentences without words are not mixed. SRILM leaves them out.

    Raises:
        DataError: if the file cannot be read, or does not contain the same sentences.
    """
    pairs = _paired(sentences, path, skip_empty=skip_empty)
    if weight is None:
        kept = list(pairs)
        weight = _best_weight([(nll, other) for _, nll, other in kept])
        pairs = iter(kept)
    for item, nll, other in pairs:
        yield item, mixture(nll, other, weight)


def _paired(
    sentences: Iterable[tuple[T, list[str], Nll, str]], path: str, *, skip_empty: bool
) -> Iterator[tuple[T, Nll, Nll]]:
    others = read_other_scores(path)
    if skip_empty:
        others = (other for other in others if other.words)
    for item, words, nll, where in sentences:
        is_skipped = skip_empty and not words
        # The mixture of a model with itself is the model.
        yield item, nll, nll if is_skipped else next_scores(others, words, where).nll
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
    logger.info(
        "mixture weight %.4f; perplexity %s of the model, %s of the other one, %s of the mixture",
        weight,
        ours,
        theirs,
        both,
    )
    return weight
