"""Scores the tokens of a text of any size with a checkpoint."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ptblm.config.data import DataConfig
from ptblm.config.evaluation import EvaluationSettings
from ptblm.corpus.findings import Findings, notes
from ptblm.corpus.lines import Line, read_lines, text_name, text_pieces
from ptblm.corpus.source import bytes_source
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.unknown_tokens import MAX_SHARE, unknown_tokens_note
from ptblm.corpus.word_splitting import Split, Splitting, word_splitter
from ptblm.errors import UsageError
from ptblm.evaluation.line_scores import Mode, ScoredLine, score_lines
from ptblm.evaluation.scorers.pipeline import Pipeline
from ptblm.evaluation.token_scores import Measures
from ptblm.run.load_model import LoadedModel
from ptblm.run.memory import memory_errors
from ptblm.run.not_finite import not_finite_error
from ptblm.run.text_config import text_config, typed_config

logger = logging.getLogger(__name__)

_SAMPLE_SIZE = 2**16  # characters


@dataclass(frozen=True)
class Scoring:
    """How a text is scored.

    Attributes:
        mode: where the hidden state is reset; see `line_scores`.
        measures: what is computed besides -log p.
        splitting: how words are divided; see `word_splitting`.
        has_ids: whether the first word of each line is the id of an utterance, which is not scored.
        batch_size: lines that are scored at once in mode "sentence".
        pipeline: computes the probabilities instead of the model; None for the static ones.
    """

    mode: Mode = "sentence"
    measures: Measures = field(default_factory=Measures)
    splitting: Splitting = "none"
    has_ids: bool = False
    batch_size: int = 64
    pipeline: Pipeline | None = None


def score_text(
    loaded: LoadedModel, text: str, scoring: Scoring, overrides: Sequence[str] = ()
) -> Iterator[ScoredLine]:
    """Yields the lines of a text with their scores, in bounded memory.

    If a user types the text, each line is scored before the next one is read. Notes about the text
    are logged at its end.

    Args:
        loaded: the model.
        text: a path, or "-" for standard input.
        scoring: how the text is scored.
        overrides: strings such as "data.encoding=latin-1", for how the text is read.

    Raises:
        CheckpointError: if a score is not finite.
        ConfigError: if an override is not valid.
        DataError: if the text cannot be read.
        UsageError: if words cannot be divided as wanted, or memory runs out.
    """
    config = text_config(loaded.config.data, overrides)
    split = word_splitter(scoring.splitting, loaded.tokenizer)
    if scoring.has_ids:
        split = partial(_split_after_id, split)
    return _score_text(loaded, text, scoring, config, split)


def score_typed(
    loaded: LoadedModel, text: str | Iterable[str], scoring: Scoring
) -> Iterator[ScoredLine]:
    """Yields the lines of a text that a program passes with their scores; see `typed_config`.

    Args:
        loaded: the model.
        text: a text, or its lines without line ends.
        scoring: how the text is scored.

    Raises:
        CheckpointError: if a score is not finite.
        DataError: if a token is unknown and the vocabulary does not contain `<unk>`.
        UsageError: if the text is not text, or memory runs out.
    """
    if isinstance(text, bytes | bytearray):  # an iterable of numbers
        raise UsageError("text: expected a string or lines, got bytes; decode them first")
    lines = [text] if isinstance(text, str) else (f"{line}\n" for line in text)
    pieces = (line.encode("utf-8", "surrogateescape") for line in lines)
    config, tokenizer = typed_config(loaded.config.data), loaded.tokenizer
    return score(loaded, read_lines(pieces, "text", tokenizer, config, Findings()), scoring)


def _score_text(
    loaded: LoadedModel, text: str, scoring: Scoring, config: DataConfig, split: Split
) -> Iterator[ScoredLine]:
    name, tokenizer, findings = text_name(text), loaded.tokenizer, Findings()
    typed = text == "-" and sys.stdin.isatty()
    if typed:
        logger.info("each line is scored when you press Enter; Ctrl-D ends the text")
    pieces = text_pieces(text, as_is=config.format == "raw")
    lines = read_lines(pieces, name, tokenizer, config, findings, split)
    unknown = UnknownTokens(tokenizer, scoring.splitting, name)
    is_scored = False
    for scored in score(loaded, map(unknown.count, lines), scoring, eager=typed):
        is_scored = True
        yield scored
    for note in notes(findings):
        logger.info(note)
    unknown.warn()
    if not is_scored:
        what = "contains only lines that divide documents" if unknown.total else "is empty"
        logger.info(f"{name}: the text {what}")


def score(
    loaded: LoadedModel, lines: Iterable[Line], scoring: Scoring, *, eager: bool = False
) -> Iterator[ScoredLine]:
    """Yields lines with their scores, in order; see `score_lines`.

    Raises:
        CheckpointError: if a score is not finite.
        UsageError: if memory runs out, or dynamic evaluation gives a score that is not finite.
    """
    with memory_errors(
        "during scoring", hint="pass a smaller --batch-size, or use a machine with more memory"
    ):
        without_context = 1 if scoring.mode == "stream" else 0
        for scored in score_lines(
            loaded.model,
            lines,
            scoring.mode,
            loaded.tokenizer.line_end_id,
            measures=scoring.measures,
            batch_size=scoring.batch_size,
            eager=eager,
            pipeline=scoring.pipeline,
        ):
            end = -1 if scoring.mode == "stream" and not scored.line.has_end else None
            if not np.isfinite(scored.scores.nll[without_context:end]).all():
                settings = scoring.pipeline.settings if scoring.pipeline else EvaluationSettings()
                raise not_finite_error(loaded.path, settings, "scores")
            without_context = 0
            yield scored


def _split_after_id(split: Split, text: str) -> tuple[list[str], list[str]]:
    """Divides a line without its first word, the id of an utterance."""
    words = text.split(maxsplit=1)
    return split(words[1] if len(words) == 2 else "")


class UnknownTokens:
    """Counts tokens that are not in the vocabulary, and keeps the start of the text.

    Args:
        tokenizer: the tokenizer.
        splitting: how words are divided.
        name: name of the text in messages.

    Attributes:
        total: number of tokens so far.
    """

    def __init__(self, tokenizer: Tokenizer, splitting: Splitting, name: str) -> None:
        self._tokenizer = tokenizer
        self._splitting = splitting
        self._name = name
        self._unknown = 0
        self._sample: list[str] = []
        self._sample_size = 0
        self.total = 0

    def count(self, line: Line) -> Line:
        """Counts the tokens of a line, and returns the line."""
        self.total += len(line.ids)
        self._unknown += int(line.unknown.sum())
        if self._sample_size < _SAMPLE_SIZE:
            separator = " " if self._tokenizer.unit == "word" else ""
            self._sample.append(separator.join(line.tokens))
            self._sample_size += len(self._sample[-1]) + 1
        return line

    def warn(self) -> None:
        """Logs a warning if many tokens are unknown."""
        if self._unknown <= MAX_SHARE * self.total:
            return
        sample = "\n".join(self._sample)
        if self._splitting == "ptb-lower":
            sample = sample.lower()
        source = bytes_source(self._name, sample.encode("utf-8", "replace"))
        note = unknown_tokens_note(source, self._tokenizer, self._unknown, self.total)
        is_whole = self._splitting == "none" and self._tokenizer.unit == "word"
        advice = "; see --tokenize ptb and --tokenize ptb-lower" if is_whole else ""
        logger.warning(note + advice)
