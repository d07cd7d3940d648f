"""Evaluates a checkpoint on a split of a corpus or on a text file."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptblm.backend.device import SelectedDevice
from ptblm.backend.matmul import MatmulBackend
from ptblm.config.evaluation import EvaluationSettings
from ptblm.corpus.layout import Split
from ptblm.corpus.lines import lines_of
from ptblm.corpus.text_size import TextSize
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.errors import DataError, UsageError
from ptblm.evaluation.evaluate import (
    LinesScore,
    evaluate,
    evaluate_lines,
    protocol,
    with_other_words,
)
from ptblm.evaluation.line_scores import Mode
from ptblm.evaluation.score import Score, perplexity
from ptblm.evaluation.scorers.description import method_steps
from ptblm.evaluation.scorers.pipeline import Pipeline
from ptblm.evaluation.unigram import unigram_table
from ptblm.progress_bar import ProgressBar
from ptblm.run.evaluated_text import EvaluatedText, read_evaluated_file, read_evaluated_split
from ptblm.run.load_model import LoadedModel
from ptblm.run.memory import memory_errors
from ptblm.run.not_finite import not_finite_error
from ptblm.run.pipelines import load_models, make_pipeline
from ptblm.run.text_config import text_config


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a checkpoint on a text.

    Attributes:
        checkpoint: the checkpoint file.
        epochs: completed epochs of the checkpoint.
        steps: completed steps of the checkpoint.
        text: name of the text in the output.
        unit: name of a token: "word", "character", "byte" or "subword".
        score: the score.
        unknown: tokens of the text that are not in the vocabulary.
        size: size of the text in words and bytes.
        unigram: perplexity of a unigram model, the relative frequencies in training; None if the
            training counts are not known.
        vocabulary_size: the size to which the vocabulary is padded; None without padding.
        open_score: the score with the padded vocabulary.
        notes: remarks about the text, one line each.
        entropy_bound: the lowest possible expected perplexity of a stream, if known.
        device: the device of the computation.
        matmul: the library that computed matrix multiplications.
        protocol: description of the evaluation protocol.
        settings: how probabilities were computed, without sections that change nothing.
        ensemble: the other checkpoints of an ensemble.
    """

    checkpoint: Path
    epochs: int
    steps: int
    text: str
    unit: str
    score: Score
    unknown: int
    size: TextSize
    unigram: float | None
    vocabulary_size: int | None
    open_score: Score | None
    notes: list[str]
    entropy_bound: float | None
    device: SelectedDevice
    matmul: MatmulBackend
    protocol: str
    settings: EvaluationSettings
    ensemble: list[Path]


@memory_errors(
    "during evaluation",
    hint="pass --device cpu or a shorter text, or use a machine with more memory",
)
def evaluate_checkpoint(
    path: Path,
    *,
    ensemble: Sequence[Path] = (),
    settings: EvaluationSettings | None = None,
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
        ensemble: more checkpoints, whose probabilities are averaged with those of the first one.
        settings: how probabilities are computed; None for the static evaluation.
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
    models = load_models([path, *ensemble], device_name, cell)
    loaded = models[0]
    tokenizer = loaded.tokenizer
    other_words = _other_words(tokenizer, vocabulary_size)
    found = (
        read_evaluated_split(loaded, split or "test", data, overrides, options="--data or --text")
        if text is None
        else read_evaluated_file(tokenizer, text_config(loaded.config.data, overrides), text)
    )
    settings = settings or EvaluationSettings()
    pipeline = make_pipeline(models, settings, show_progress=show_progress)
    result = _score(loaded, found, mode, pipeline, show_progress=show_progress)
    score = result.score
    if not math.isfinite(score.nll) or not math.isfinite(score.perplexity):
        raise not_finite_error(loaded.path, settings, "perplexity")
    return Evaluation(
        checkpoint=loaded.path,
        epochs=loaded.epochs,
        steps=loaded.steps,
        text=found.name,
        unit=tokenizer.unit,
        score=score,
        unknown=result.unknown,
        size=result.size,
        unigram=None
        if math.isnan(result.unigram_nll)
        else perplexity(result.unigram_nll, score.tokens),
        vocabulary_size=vocabulary_size,
        open_score=None if other_words is None else with_other_words(score, other_words),
        notes=found.notes,
        entropy_bound=found.entropy_bound if mode == "stream" else None,
        device=loaded.device,
        matmul=loaded.matmul,
        protocol="; ".join(
            [
                protocol(mode, loaded.config.model.initial_state, tokenizer),
                *method_steps(settings.active(), len(models)),
            ]
        ),
        settings=settings.active(),
        ensemble=[other.path for other in models[1:]],
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


def _score(
    loaded: LoadedModel,
    text: EvaluatedText,
    mode: Mode,
    pipeline: Pipeline | None,
    *,
    show_progress: bool,
) -> LinesScore:
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
        size = text.encoded.size
        scores = evaluate(model, tokenizer, text.encoded, pipeline)
        results = (LinesScore(score, unknown, size, unigram) for score in scores)
    else:
        lines = lines_of(text.source, tokenizer)
        results = evaluate_lines(model, tokenizer, lines, mode, pipeline)
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
