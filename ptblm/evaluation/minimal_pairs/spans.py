"""Scores spans of sentences: the tokens whose probability a comparison is about.

Each distinct sentence is scored once. Sentences that are the same tokens therefore have equal
scores, bit for bit, regardless of the rounding of batches.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.lines import Line, make_line
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Ids
from ptblm.corpus.word_splitting import Splitting, split_words
from ptblm.evaluation.minimal_pairs.pair import Place
from ptblm.evaluation.sequence_scores import BATCH_SIZE, score_sequences
from ptblm.model.language_model import LanguageModel

ScoreKind = Literal["sum", "mean", "slor"]

# Batches of a call of `score_sequences`, after each of which progress is reported.
_BATCHES = 8


@dataclass(frozen=True)
class Reader:
    """A model, and how it reads sentences.

    Attributes:
        model: the model, in evaluation mode.
        tokenizer: its tokenizer.
        splitting: how a sentence is divided into words.
        batch_size: sentences that are scored at once.
        progress: called with the number of sentences that were scored since the last call.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    splitting: Splitting = "none"
    batch_size: int = BATCH_SIZE
    progress: Callable[[int], None] = field(default=lambda _: None)

    def tokens(self, text: str) -> list[str]:
        """Returns the tokens of a text.

        If words are split, punctuation that the vocabulary does not contain is left out, as in the
        text of the Penn Treebank that language models are trained on.
        """
        tokens = split_words(text, self.splitting, self.tokenizer)
        if self.splitting == "none":
            return tokens
        known = self.tokenizer.ids
        return [token for token in tokens if token in known or any(map(str.isalnum, token))]

    def part(self, text: str, *, first: bool = False, last: bool = False) -> list[str]:
        """Returns the tokens of words of a sentence, with the space to the other words.

        That is the space after them, or before them if the tokenizer attaches it there. Models of
        words have no tokens for spaces.

        Args:
            text: the words, separated by spaces.
            first: whether the sentence starts with them.
            last: whether the sentence ends with them.
        """
        if not text:
            return []
        if self.tokenizer.space_before:
            return self.tokens(text if first else f" {text.lstrip()}")
        return self.tokens(text) + ([] if last else self.tokenizer.tokens_of(" "))

    def line(self, tokens: list[str], text: str, place: Place) -> Line:
        """Returns the line of these tokens; see `make_line`."""
        return make_line(place.number, tokens, self.tokenizer, text, place.file)


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of a sentence.

    Attributes:
        ids: the ids of the sentence up to at least the end of the span, [N].
        start: position of the first token.
        end: position after the last token.
    """

    ids: Ids
    start: int
    end: int

    @property
    def key(self) -> tuple[bytes, int, int]:
        """Is equal for equal spans."""
        return self.ids.tobytes(), self.start, self.end


def token_nll(reader: Reader, sequences: Iterable[Ids]) -> dict[bytes, NDArray[np.float64]]:
    """Returns -log p in nats of the tokens of each distinct sentence, by the bytes of its ids.

    Args:
        reader: the model.
        sequences: the ids of sentences.
    """
    distinct = {ids.tobytes(): ids for ids in sequences}
    keys = sorted(distinct, key=lambda key: -len(key))
    found: dict[bytes, NDArray[np.float64]] = {}
    at_once = _BATCHES * reader.batch_size
    for start in range(0, len(keys), at_once):
        some = keys[start : start + at_once]
        scores = score_sequences(
            reader.model,
            [distinct[key] for key in some],
            reader.tokenizer.line_end_id,
            batch_size=reader.batch_size,
        )
        found.update(zip(some, (each.nll for each in scores), strict=True))
        reader.progress(len(some))
    return found


def span_score(
    nll: NDArray[np.float64], ids: Ids, kind: ScoreKind, unigram: NDArray[np.float64] | None
) -> float:
    """Returns the score of a span; higher is more probable.

    Args:
        nll: -log p of its tokens in nats, [N].
        ids: its ids, [N].
        kind: "sum" for log p; "mean" for log p per token; "slor" for the difference per token to
            the log p of a unigram model (syntactic log-odds ratio, Pauls & Klein 2012).
        unigram: -log p of each token of the vocabulary in nats, [V], for "slor".
    """
    log_p = -float(nll.sum())
    if kind == "sum" or not len(ids):
        return log_p
    if kind == "slor":
        assert unigram is not None  # noqa: S101 - for the type checker
        log_p += float(unigram[ids].sum())
    return log_p / len(ids)
