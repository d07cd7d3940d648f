"""Scores the tokens of a text line by line, in one of three modes.

- stream: the text is one sequence. Its first token has no context and is not scored, and no end is
  added to its last line. This is the protocol of published perplexities of the Penn Treebank.
- sentence: each line is scored by itself, with the token that ends a line as context of its first
  token. Every token is scored.
- document: like sentence, but the hidden state is carried from line to line. It is reset at a blank
  line and at the line `!ARTICLE`, which are not scored themselves.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ptblm.corpus.lines import Line
from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.scorers.pipeline import Pipeline
from ptblm.evaluation.scorers.protocol import Scorer
from ptblm.evaluation.scorers.static import StaticScorer
from ptblm.evaluation.sequence_scores import BATCH_SIZE, score_sequences
from ptblm.evaluation.token_scores import Measures, TokenScores, concatenate, without_context
from ptblm.model.language_model import LanguageModel

Mode = Literal["stream", "sentence", "document"]

# Tokens of the lines that are read before they are sorted by length and scored in batches. A line
# is padded to the length of its neighbors, so more tokens waste less time.
_WINDOW = 2**15
_WINDOW_WITH_STATES = 2**11  # because the states of a token can take 50 KB


@dataclass(frozen=True)
class ScoredLine:
    """A line and the scores of its tokens, including the token that ends the line."""

    line: Line
    scores: TokenScores


def score_lines(
    model: LanguageModel,
    lines: Iterable[Line],
    mode: Mode,
    context: int,
    *,
    measures: Measures | None = None,
    batch_size: int = BATCH_SIZE,
    eager: bool = False,
    pipeline: Pipeline | None = None,
) -> Iterator[ScoredLine]:
    """Yields each line with its scores, in the order of the text, in bounded memory.

    Args:
        model: the model, in evaluation mode; it is not modified.
        lines: the lines of the text.
        mode: the mode; see the module.
        context: id of the token that ends a line.
        measures: what to compute besides -log p.
        batch_size: B, lines that are scored at once in mode "sentence". The rounding of a score
            depends on it; 1 scores each line independently of the others.
        eager: whether to score each line before the next one is read. Then the chunks of a pipeline
            end with the lines, but not the segments of dynamic evaluation.
        pipeline: computes the probabilities instead of `model`. Where the hidden state is reset,
            its cache and its weights are too.
    """
    measures = measures or Measures()
    if mode == "sentence" and pipeline is None:
        window = _WINDOW_WITH_STATES if measures.states else _WINDOW
        for some in _windows(lines, 1 if eager else window):
            ids = [line.ids for line in some]
            scores = score_sequences(model, ids, context, measures=measures, batch_size=batch_size)
            yield from map(ScoredLine, some, scores)
    else:
        yield from _score_stream(model, lines, mode, context, measures, pipeline, eager=eager)


def _windows(lines: Iterable[Line], tokens: int) -> Iterator[list[Line]]:
    """Yields lists of lines with at least this many tokens, except for the last one."""
    window, size = [], 0
    for line in lines:
        window.append(line)
        size += len(line.ids)
        if size >= tokens:
            yield window
            window, size = [], 0
    if window:
        yield window


def _score_stream(
    model: LanguageModel,
    lines: Iterable[Line],
    mode: Mode,
    context: int,
    measures: Measures,
    pipeline: Pipeline | None,
    *,
    eager: bool,
) -> Iterator[ScoredLine]:
    """Scores lines with one hidden state, which is reset between documents or sentences."""

    def start() -> Scorer:
        return StaticScorer(model, states=measures.states) if pipeline is None else pipeline.start()

    waiting: deque[Line] = deque()
    sequence = _Sequence(start(), None if mode == "stream" else context, measures)
    for line in lines:
        divides = mode == "document" and line.divides_documents
        if divides or mode == "sentence":
            sequence.score_rest()
            yield from sequence.take(waiting)
            sequence = _Sequence(start(), context, measures)
        if divides:
            continue
        waiting.append(line)
        sequence.add(line.ids)
        if eager:
            sequence.score_rest()
        yield from sequence.take(waiting)
    sequence.score_rest()
    yield from sequence.take(waiting)


class _Sequence:
    """A sequence of tokens that is scored chunk by chunk while it grows.

    Args:
        scorer: computes the scores.
        context: id of the token before the first one; None if the first token is not scored.
        measures: what to compute besides -log p.
    """

    def __init__(self, scorer: Scorer, context: int | None, measures: Measures) -> None:
        self._scorer = scorer
        self._measures = measures
        self._previous = context
        self._unscored: list[Ids] = []
        self._scored: list[TokenScores] = []
        self._size = 0  # of unscored tokens
        self._is_stream = self._skipped_first = context is None

    def add(self, ids: Ids) -> None:
        """Adds tokens, and scores all complete chunks."""
        if self._previous is None:
            self._previous, ids = int(ids[0]), ids[1:]
        self._unscored.append(ids)
        self._size += len(ids)
        if self._size >= self._scorer.chunk_size:
            self._score()

    def score_rest(self) -> None:
        """Scores the tokens that do not fill a chunk."""
        self._score(rest=True)

    def take(self, waiting: deque[Line]) -> Iterator[ScoredLine]:
        """Removes and yields the first lines, as long as all of their tokens are scored."""
        if not self._scored:
            return
        scores, start = concatenate(self._scored), 0
        if self._skipped_first:
            scores = concatenate([without_context(scores[:1]), scores])
            self._skipped_first = False
        while waiting and start + len(waiting[0].ids) <= len(scores):
            line = waiting.popleft()
            end = start + len(line.ids)
            if self._is_stream and not line.has_end:
                last = without_context(scores[end - 1 : end])
                yield ScoredLine(line, concatenate([scores[start : end - 1], last]))
            else:
                yield ScoredLine(line, scores[start:end])
            start = end
        self._scored = [scores[start:]] if start < len(scores) else []

    def _score(self, *, rest: bool = False) -> None:
        """Scores all complete chunks and, with `rest`, the tokens that remain."""
        if self._size == 0 or self._previous is None:
            return
        ids = np.concatenate(self._unscored)
        inputs = np.insert(ids, 0, self._previous)
        start, end = 0, self._scorer.chunk_size
        while end <= len(ids) or (rest and start < len(ids)):
            end = min(end, len(ids))
            part = slice(start, end)
            scores = self._scorer.token_scores(inputs[part], ids[part], self._measures)
            self._scored.append(scores)
            start, end = end, end + self._scorer.chunk_size
        self._previous = int(inputs[start])
        self._unscored, self._size = [ids[start:]], len(ids) - start
