"""Evaluates a model on a whole text in one of the modes of `line_scores`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.batches import count_streams
from ptblm.corpus.lines import Line
from ptblm.corpus.reader import EncodedText
from ptblm.corpus.text_size import TextSize, line_size
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import UNK
from ptblm.evaluation.line_scores import Mode, ScoredLine, score_lines
from ptblm.evaluation.score import Score
from ptblm.evaluation.scorer import on_device, running_scores
from ptblm.evaluation.scorers.pipeline import Pipeline, pipeline_scores
from ptblm.evaluation.unigram import unigram_table
from ptblm.model.language_model import LanguageModel

_PROTOCOLS: dict[Mode, str] = {
    "stream": "one stream; initial state: {initial_state}; state carried to the end; "
    "every token but the first is a target; fp32",
    "sentence": "sentences: each line by itself, after {context}; initial state: {initial_state}; "
    "every token is a target; fp32",
    "document": "documents, divided by blank lines or !ARTICLE, each after {context}; initial "
    "state: {initial_state}; state carried to the end of the document; every token is a target; "
    "fp32",
}


_TOKENS_PER_SCORE = 1000


@dataclass(frozen=True)
class LinesScore:
    """The score of the lines of a text.

    Attributes:
        score: the score of all tokens.
        unknown: tokens that are not in the vocabulary.
        size: size of the lines in words and bytes.
        unigram_nll: sum of -log p under the unigram model of the training counts, in nats; NaN if
            the training counts are not known.
    """

    score: Score = field(default_factory=Score)
    unknown: int = 0
    size: TextSize = field(default_factory=TextSize)
    unigram_nll: float = 0.0

    def __add__(self, other: "LinesScore") -> "LinesScore":
        """Returns the score of the lines of both."""
        return LinesScore(
            self.score + other.score,
            self.unknown + other.unknown,
            self.size + other.size,
            self.unigram_nll + other.unigram_nll,
        )


def protocol(mode: Mode, initial_state: str, tokenizer: Tokenizer) -> str:
    """Returns a description of the evaluation protocol, which decides what can be compared."""
    context = "a newline" if tokenizer.line_end == "\n" else tokenizer.line_end
    return _PROTOCOLS[mode].format(initial_state=initial_state, context=context)


def evaluate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: EncodedText,
    pipeline: Pipeline | None = None,
) -> Iterator[Score]:
    """Yields the cumulative score after each chunk. The last score is the score of the text.

    Args:
        model: the model, in evaluation mode.
        tokenizer: the tokenizer of the text. Special tokens are also scored separately.
        text: the text, scored as one stream: the protocol of published test perplexities.
        pipeline: computes the probabilities instead of `model`.

    Raises:
        DataError: if the text has fewer than two tokens.
    """
    streams = count_streams(len(text.ids), 1, 1, "text")
    ids = on_device(text.ids, next(model.parameters()).device)
    if pipeline is None:
        yield from running_scores(model, ids, streams, special_ids=tokenizer.special_ids)
    else:
        yield from pipeline_scores(pipeline, ids, tokenizer.special_ids)


def evaluate_lines(
    model: LanguageModel,
    tokenizer: Tokenizer,
    lines: Iterable[Line],
    mode: Literal["sentence", "document"],
    pipeline: Pipeline | None = None,
) -> Iterator[LinesScore]:
    """Yields the cumulative score from time to time. The last score is the score of the text.

    Args:
        model: the model, in evaluation mode.
        tokenizer: the tokenizer of the text. Special tokens are also scored separately.
        lines: the lines of the text.
        mode: the mode; see `line_scores`. All tokens of a line are scored.
        pipeline: computes the probabilities instead of `model`.
    """
    total, yielded, unigram = LinesScore(), 0, unigram_table(tokenizer.vocabulary)
    for scored in score_lines(model, lines, mode, tokenizer.line_end_id, pipeline=pipeline):
        total += _line_score(scored, tokenizer, unigram)
        if total.score.tokens >= yielded + _TOKENS_PER_SCORE:
            yield total
            yielded = total.score.tokens
    yield total


def _line_score(
    scored: ScoredLine, tokenizer: Tokenizer, unigram: NDArray[np.float64]
) -> LinesScore:
    line, nll = scored.line, scored.scores.nll
    breakdown = {}
    for token, index in tokenizer.special_ids.items():
        is_token = line.ids == index
        breakdown[token] = Score(float(nll[is_token].sum()), int(is_token.sum()))
    score = Score(float(nll.sum()), len(nll), breakdown)
    return LinesScore(
        score,
        int(line.unknown.sum()),
        line_size(line.text),
        float(unigram[line.ids].sum()),
    )


def with_other_words(score: Score, number: int) -> Score:
    """Returns the score if `<unk>` stands for a number of words, each equally probable.

    This makes models with different vocabularies comparable: the vocabulary and the other words
    together have the same size. It is what `--vocab_pad` of KenLM's `lmplz` does.

    Args:
        score: the score, with `<unk>` in its breakdown.
        number: the number of words, at least 1.
    """
    unk = score.part(UNK)
    return Score(score.nll + unk.tokens * float(np.log(number)), score.tokens)
