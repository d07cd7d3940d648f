"""Judges pairs of sentences: which one does the model find more probable?

Three methods compare log p of different spans:

- full: the whole sentences, including the token that ends a line.
- prefix: the critical word given the text before it, both as named in the file (the prefix methods
  of Warstadt et al. 2020).
- target: from the first token that differs to the last one, given the tokens before it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.lines import Line
from ptblm.evaluation.minimal_pairs.pair import Continuation, Pair, Place
from ptblm.evaluation.minimal_pairs.spans import Reader, ScoreKind, Span, span_score, token_nll

Method = Literal["full", "prefix", "target"]
Verdict = Literal["right", "wrong", "tie"]

# Scores are equal if they differ by no more than the rounding of batches: relative, and in nats.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-6
# Pairs whose sentences are sorted by length and scored at once. The bound limits the memory.
_WINDOW = 2**14


@dataclass(frozen=True, slots=True)
class Judgment:
    """The verdict on a pair, or on a prediction about an item of a suite.

    Attributes:
        paradigm: the paradigm of the pair.
        groups: other sets that the pair belongs to.
        verdict: "tie" if both sentences have the same score.
        same: whether both sentences are the same tokens for the model.
        words: tokens of the sentences, without those that end a line.
        unknown: how many of them are not in the vocabulary.
        scores: the scores of the good and of the bad sentence; None for a suite.
        sentences: the good and the bad sentence; None for a suite.
    """

    paradigm: str
    groups: Mapping[str, str]
    verdict: Verdict
    same: bool
    words: int
    unknown: int
    scores: tuple[float, float] | None = None
    sentences: tuple[str, str] | None = None


def judge_pairs(
    reader: Reader,
    pairs: Sequence[Pair],
    method: Method = "full",
    kind: ScoreKind = "sum",
    unigram: NDArray[np.float64] | None = None,
) -> list[Judgment]:
    """Returns the judgment of each pair. The hidden state is reset before each sentence.

    Args:
        reader: the model.
        pairs: the pairs; for the method "prefix", those that have prefixes.
        method: see the module.
        kind: how the score of a span is computed; see `span_score`.
        unigram: -log p of each token of the vocabulary, [V], for the kind "slor".

    Raises:
        DataError: if a word is unknown and the vocabulary does not contain `<unk>`.
    """
    return [
        each
        for start in range(0, len(pairs), _WINDOW)
        for each in _judge_window(reader, pairs[start : start + _WINDOW], method, kind, unigram)
    ]


def _judge_window(
    reader: Reader,
    pairs: Sequence[Pair],
    method: Method,
    kind: ScoreKind,
    unigram: NDArray[np.float64] | None,
) -> list[Judgment]:
    lines = [
        [reader.line(reader.tokens(text), text, pair.place) for text in (pair.good, pair.bad)]
        for pair in pairs
    ]
    spans = [_spans(reader, *both, method) for both in zip(pairs, lines, strict=True)]
    nll = token_nll(reader, (span.ids for both in spans for span in both))

    def score(span: Span) -> float:
        part = slice(span.start, span.end)
        return span_score(nll[span.ids.tobytes()][part], span.ids[part], kind, unigram)

    return [
        judgment(pair, both, (score(good), score(bad)), same=good.key == bad.key)
        for pair, both, (good, bad) in zip(pairs, lines, spans, strict=True)
    ]


def judgment(
    pair: Pair, lines: Sequence[Line], scores: tuple[float, float], *, same: bool
) -> Judgment:
    """Returns the judgment of a pair.

    Args:
        pair: the pair.
        lines: its sentences.
        scores: their scores; higher is more probable.
        same: whether the compared tokens and their contexts are the same.
    """
    return Judgment(
        pair.paradigm,
        pair.groups,
        verdict_of(*scores),
        same,
        sum(len(line.tokens) for line in lines),
        sum(int(line.unknown.sum()) for line in lines),
        scores,
        (pair.good, pair.bad),
    )


def verdict_of(good: float, bad: float) -> Verdict:
    """Returns the verdict on the scores of two sentences."""
    if math.isclose(good, bad, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE):
        return "tie"
    return "right" if good > bad else "wrong"


def _spans(reader: Reader, pair: Pair, lines: list[Line], method: Method) -> tuple[Span, Span]:
    good, bad = lines
    if method == "full":
        return Span(good.ids, 0, len(good.ids)), Span(bad.ids, 0, len(bad.ids))
    if method == "target":
        return differing_spans(good, bad)
    if pair.prefixes is None:
        raise ValueError("the pair has no prefixes")
    first, second = (_continuation(reader, each, pair.place) for each in pair.prefixes)
    return first, second


def differing_spans(good: Line, bad: Line) -> tuple[Span, Span]:
    """Returns the tokens from the first to the last difference; all tokens if there is none.

    Each span has at least one token. If one sentence only has additional tokens, the spans end
    with the token after them, which both sentences contain.
    """
    sizes = len(good.ids), len(bad.ids)
    start = _equal(good.ids.tolist(), bad.ids.tolist())
    if start == max(sizes):
        return Span(good.ids, 0, sizes[0]), Span(bad.ids, 0, sizes[1])
    start = min(start, *(size - 1 for size in sizes))  # if one sentence is the start of the other
    rest = good.ids[start:].tolist()[:0:-1], bad.ids[start:].tolist()[:0:-1]
    after = _equal(*rest)
    return Span(good.ids, start, sizes[0] - after), Span(bad.ids, start, sizes[1] - after)


def _equal(first: list[int], second: list[int]) -> int:
    """Returns the number of equal elements at the start of two lists."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second)))  # noqa: B905


def _continuation(reader: Reader, text: Continuation, place: Place) -> Span:
    before = reader.part(text.prefix, first=True)
    word = reader.part(text.word, first=not text.prefix)
    ids = reader.line(before + word, f"{text.prefix} {text.word}", place).ids[:-1]
    return Span(ids, len(before), len(ids))
