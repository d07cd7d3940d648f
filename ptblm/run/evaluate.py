"""Evaluates a checkpoint on a split of a corpus or on a text file."""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptblm.backend.device import SelectedDevice
from ptblm.backend.matmul import MatmulBackend
from ptblm.config.data import DataConfig
from ptblm.corpus.corpus import read_entropy_bound
from ptblm.corpus.layout import Split
from ptblm.corpus.lines import count_words, lines_of
from ptblm.corpus.preparing import notes, prepare_text
from ptblm.corpus.reader import EncodedText, read_text
from ptblm.corpus.source import Source, read_content, read_file
from ptblm.corpus.splits import corpus_name, locate_corpus, prepare_splits, shadowed_note
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.unknown_tokens import MAX_SHARE, unknown_tokens_note
from ptblm.errors import CheckpointError, DataError, UsageError
from ptblm.evaluation.evaluate import (
    LinesScore,
    evaluate,
    evaluate_lines,
    protocol,
    with_other_words,
)
from ptblm.evaluation.line_scores import Mode
from ptblm.evaluation.score import Score, perplexity
from ptblm.evaluation.unigram import unigram_table
from ptblm.paths import expand_path, shell_join
from ptblm.progress_bar import ProgressBar
from ptblm.run.agreement import check_corpus, check_known_corpus
from ptblm.run.load_model import LoadedModel, load_trusted_model
from ptblm.run.memory import memory_errors
from ptblm.run.text_config import text_config


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a checkpoint on a text.

    Attributes:
        checkpoint: the checkpoint file.
        epochs: completed epochs of the checkpoint.
        steps: completed steps of the checkpoint.
        text: name of the text in the output.
        unit: name of a token: "word", "character" or "byte".
        score: the score.
        unknown: tokens of the text that are not in the vocabulary.
        words: words between white space; None for the word tokenizer.
        unigram: perplexity of a unigram model, the relative frequencies in training; None if the
            training counts are not known.
        vocabulary_size: the size to which the vocabulary is padded; None without padding.
        open_score: the score with the padded vocabulary.
        notes: remarks about the text, one line each.
        entropy_bound: the lowest possible expected perplexity of a stream, if known.
        device: the device of the computation.
        matmul: the library that computed matrix multiplications.
        protocol: description of the evaluation protocol.
    """

    checkpoint: Path
    epochs: int
    steps: int
    text: str
    unit: str
    score: Score
    unknown: int
    words: int | None
    unigram: float | None
    vocabulary_size: int | None
    open_score: Score | None
    notes: list[str]
    entropy_bound: float | None
    device: SelectedDevice
    matmul: MatmulBackend
    protocol: str


@memory_errors(
    "during evaluation",
    hint="pass --device cpu or a shorter text, or use a machine with more memory",
)
def evaluate_checkpoint(
    path: Path,
    *,
    split: Split | None = None,
    data: str | None = None,
    text: str | None = None,
    mode: Mode = "stream",
    vocabulary_size: int | None = None,
    cell: str | None = None,
    overrides: Sequence[str] = (),
    device_name: str = "auto",
    show_progress: bool = False,
) -> Evaluation:
    """Evaluates a checkpoint.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        split: split of the corpus; None selects the test split.
        data: the corpus; None selects the corpus of the run.
        text: a file to evaluate on instead of a corpus; "-" reads standard input.
        mode: how the text is divided; see `line_scores`.
        vocabulary_size: size to which the vocabulary is padded; see `with_other_words`.
        cell: the custom cell of the checkpoint, which the caller agrees to run.
        overrides: strings such as "data.encoding=latin-1", for how the text is read.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        ConfigError: if an override is not valid.
        DataError: if the text cannot be read or is too short.
        UsageError: if the device is not available, memory runs out, or `vocabulary_size` is less
            than the size of the vocabulary.
    """
    loaded = load_trusted_model(path, device_name, cell)
    tokenizer = loaded.tokenizer
    other_words = _other_words(tokenizer, vocabulary_size)
    config = text_config(loaded.config.data, overrides, data=data, is_other_text=text is not None)
    if text is None and data is None:
        check_known_corpus(loaded.corpus, loaded.path, "--data or --text")
        check_corpus(config, loaded.path)
    found = _read(loaded, config, split or "test", text)
    result = _score(loaded, found, mode, show_progress=show_progress)
    score = result.score
    if not math.isfinite(score.nll) or not math.isfinite(score.perplexity):
        best = loaded.path.with_name("best.safetensors")
        raise CheckpointError(
            "the weights give no finite perplexity",
            where=str(loaded.path),
            hint=shell_join(["ptblm", "eval", str(best)])
            if best != loaded.path and best.is_file()
            else "use another checkpoint",
        )
    return Evaluation(
        checkpoint=loaded.path,
        epochs=loaded.epochs,
        steps=loaded.steps,
        text=found.name,
        unit=tokenizer.unit,
        score=score,
        unknown=result.unknown,
        words=None if tokenizer.unit == "word" else result.words,
        unigram=None
        if math.isnan(result.unigram_nll)
        else perplexity(result.unigram_nll, score.tokens),
        vocabulary_size=vocabulary_size,
        open_score=None if other_words is None else with_other_words(score, other_words),
        notes=found.notes,
        entropy_bound=found.entropy_bound if mode == "stream" else None,
        device=loaded.device,
        matmul=loaded.matmul,
        protocol=protocol(mode, loaded.config.model.initial_state, tokenizer),
    )


def _other_words(tokenizer: Tokenizer, vocabulary_size: int | None) -> int | None:
    """Returns the number of words that `<unk>` stands for; None if it stands for one token."""
    if vocabulary_size is None:
        return None
    vocabulary = tokenizer.vocabulary
    if vocabulary.unk_id is None:
        raise UsageError("--vocab-pad: the vocabulary does not contain <unk>")
    if vocabulary_size < len(vocabulary):
        raise UsageError(
            f"--vocab-pad {vocabulary_size}: the vocabulary has {len(vocabulary):,} tokens",
            hint="pass a number that is larger than the vocabularies to compare",
        )
    return vocabulary_size - len(vocabulary) + 1


@dataclass(frozen=True)
class _Text:
    """A text to evaluate on.

    Attributes:
        source: the text, prepared for the tokenizer.
        encoded: its ids.
        name: its name in the output.
        entropy_bound: the lowest possible expected perplexity, if known.
        notes: remarks about the text, one line each.
    """

    source: Source
    encoded: EncodedText
    name: str
    entropy_bound: float | None
    notes: list[str]


def _read(loaded: LoadedModel, config: DataConfig, split: Split, text: str | None) -> _Text:
    """Reads the text to evaluate on."""
    tokenizer = loaded.tokenizer
    if text is not None:
        as_is = config.format == "raw"
        raw = (
            read_content(sys.stdin.buffer.read(), "standard input", as_is=as_is)
            if text == "-"
            else read_file(expand_path(text), as_is=as_is)
        )
        prepared = prepare_text(raw, config)
        encoded = read_text(prepared.source, tokenizer)
        lines = notes([prepared], config) + _warnings(prepared.source, tokenizer, encoded)
        return _Text(prepared.source, encoded, raw.name, None, lines)
    corpus = locate_corpus(config, [split])
    texts = prepare_splits(corpus, config)
    source = texts.sources[split]
    encoded = read_text(source, tokenizer)
    bound = read_entropy_bound(corpus.location, tokenizer.name, split, encoded.sha256)
    rule = "" if texts.rule is None else f", {texts.rule}"
    name = f"{split} split of {corpus_name(config.path)}{rule}"
    shadowed = shadowed_note(config.path)
    lines = [] if shadowed is None else [shadowed]
    lines += texts.notes + _warnings(source, tokenizer, encoded)
    return _Text(source, encoded, name, bound, lines)


def _warnings(source: Source, tokenizer: Tokenizer, text: EncodedText) -> list[str]:
    """Returns a warning if many tokens of the text are unknown."""
    if text.unknown <= MAX_SHARE * len(text.ids):
        return []
    return [unknown_tokens_note(source, tokenizer, text.unknown, len(text.ids))]


def _score(loaded: LoadedModel, text: _Text, mode: Mode, *, show_progress: bool) -> LinesScore:
    """Returns the score of the text in the given mode.

    Raises:
        DataError: if no token of the text is scored.
    """
    model, tokenizer, total = loaded.model, loaded.tokenizer, len(text.encoded.ids)
    results: Iterator[LinesScore]
    if mode == "stream":
        ids, unknown = text.encoded.ids, text.encoded.unknown
        counts = np.bincount(ids[1:], minlength=len(tokenizer.vocabulary))
        unigram = float(counts @ unigram_table(tokenizer.vocabulary))
        words = count_words(text.source)
        scores = evaluate(model, tokenizer, text.encoded)
        results = (LinesScore(score, unknown, words, unigram) for score in scores)
    else:
        results = evaluate_lines(model, tokenizer, lines_of(text.source, tokenizer), mode)
    result = LinesScore()
    with ProgressBar(total) if show_progress else nullcontext() as bar:
        for result in results:
            score = result.score
            if bar is not None and score.tokens:
                share = f"{score.tokens / total:.0%}"
                bar.show(score.tokens, [text.name, f"perplexity {score.perplexity:.2f}", share])
    if not result.score.tokens:
        raise DataError("the text contains only lines that divide documents", where=text.name)
    return result
