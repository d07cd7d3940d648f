"""The output of SRILM, KenLM and Kaldi, for their scripts and for interpolation with n-grams.

They print the probability of the end of a sentence as that of `</s>`. For KenLM, the length of the
n-gram is that of the context with the word: all words of the sentence so far, and `<s>`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ptblm.errors import DataError
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.reporting.score_formats.columns import Column, Request
from ptblm.reporting.srilm_scores import SrilmScores

_END = "</s>"


@dataclass
class _Totals:
    """Sums over sentences, as KenLM reports them.

    Attributes:
        base: base of the logarithms.
        sentences: number of sentences.
        words: number of words, without the ends of sentences.
        unknown: number of unknown words.
        log_prob: log-probability of all words and ends of sentences.
        log_prob_unknown: the part of the unknown words.
    """

    base: float
    sentences: int = 0
    words: int = 0
    unknown: int = 0
    log_prob: float = 0.0
    log_prob_unknown: float = 0.0

    def add(self, scored: ScoredLine, log_probs: Column) -> None:
        is_finite = np.isfinite(log_probs)
        self.sentences += 1
        self.words += len(scored.line.tokens)
        self.unknown += int(scored.line.unknown.sum())
        self.log_prob += float(log_probs[is_finite].sum())
        self.log_prob_unknown += float(log_probs[is_finite & scored.line.unknown].sum())

    def perplexity(self, log_prob: float, count: int) -> str:
        """Returns base^(-log_prob / count) as text; NaN if the count is 0."""
        try:
            return f"{self.base ** (-log_prob / count):.7g}" if count > 0 else "nan"
        except OverflowError:
            return "inf"


def srilm(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of SRILM's `ngram -unk -ppl TEXT -debug 2`.

    `compute-best-mix` reads it, and finds the weights of an interpolation with n-gram models.
    Like SRILM, it leaves out blank lines and prints unknown words as `<unk>`. The model gives them
    a probability, so they are not counted as OOVs.
    """
    scores = SrilmScores(request.base)
    for scored in lines:
        line = scored.line
        if line.tokens:
            yield list(scores.sentence(line.tokens, scored.scores.nll, line.unknown))
    yield list(scores.summary(request.text))


def kenlm(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of KenLM's `query`: words, sentences and the summary.

    The id of an unknown word is 0; that of another word is 1 more than in the vocabulary.
    """
    total, unk_id = _Totals(request.base), request.tokenizer.vocabulary.unk_id
    for scored in lines:
        log_probs = -scored.scores.nll / math.log(request.base)
        total.add(scored, log_probs)
        words = zip([*scored.line.tokens, _END], scored.line.ids.tolist(), log_probs, strict=True)
        texts = [
            f"{word}={0 if index == unk_id else index + 1} {length} {each:.7g}\t"
            for length, (word, index, each) in enumerate(words, start=2)
        ]
        unknown = int(scored.line.unknown.sum())
        yield [f"{''.join(texts)}Total: {log_probs.sum():.7g} OOV: {unknown}"]
    tokens = total.words + total.sentences
    known = total.perplexity(total.log_prob - total.log_prob_unknown, tokens - total.unknown)
    yield [
        f"Perplexity including OOVs:\t{total.perplexity(total.log_prob, tokens)}",
        f"Perplexity excluding OOVs:\t{known}",
        f"OOVs:\t{total.unknown}",
        f"Tokens:\t{tokens}",
    ]


def kaldi(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of Kaldi's `steps/pytorchnn/compute_sentence_scores.py`.

    Each line is an utterance id, then -log p of each word and of the end of the sentence.

    Raises:
        DataError: if a line does not start with an id.
    """
    for scored in lines:
        first = scored.line.text.split(maxsplit=1)[:1]
        if not first:
            raise DataError(
                "a line without an utterance id",
                where=f"{request.text}:{scored.line.number}",
                hint="each line is an utterance id, then the words of the utterance",
            )
        values = (scored.scores.nll / math.log(request.base)).tolist()
        yield [" ".join([*first, *(f"{value:.4f}" for value in values)])]
