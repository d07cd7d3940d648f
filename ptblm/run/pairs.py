"""Evaluates a checkpoint on minimal pairs."""

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptblm.backend.device import SelectedDevice
from ptblm.corpus.word_splitting import Splitting
from ptblm.errors import CheckpointError, DataError
from ptblm.evaluation.minimal_pairs.accuracy import Summary, summarize
from ptblm.evaluation.minimal_pairs.agreement import SUFFIXES, AgreementText
from ptblm.evaluation.minimal_pairs.agreement_scores import judge_agreement
from ptblm.evaluation.minimal_pairs.judgments import Judgment, Method, judge_pairs
from ptblm.evaluation.minimal_pairs.reading import Material, read_minimal_pairs
from ptblm.evaluation.minimal_pairs.spans import Reader, ScoreKind
from ptblm.evaluation.minimal_pairs.suite_scores import judge_suite
from ptblm.evaluation.minimal_pairs.syntaxgym import Suite
from ptblm.evaluation.minimal_pairs.table import Columns
from ptblm.evaluation.sequence_scores import BATCH_SIZE
from ptblm.evaluation.unigram import unigram_nll
from ptblm.progress_bar import ProgressBar
from ptblm.run.load_model import LoadedModel, load_trusted_model
from ptblm.run.memory import memory_errors
from ptblm.run.pairs_options import check_options, descriptions
from ptblm.run.predictions import check_predictions_path, write_predictions
from ptblm.terminal import counted

logger = logging.getLogger(__name__)

# A larger share of pairs that are the same for the model makes the accuracy meaningless.
_MAX_SAME = 0.05


@dataclass(frozen=True)
class PairsResult:
    """The result of evaluating a checkpoint on minimal pairs.

    Attributes:
        checkpoint: the checkpoint file.
        epochs: completed epochs of the checkpoint.
        steps: completed steps of the checkpoint.
        unit: name of a token: "word", "character", "byte" or "subword".
        compared: what was compared, for each kind of file.
        splitting: how sentences were divided into words.
        strict: whether ties count as wrong instead of half.
        judgments: the judgment of each pair, in the order of the files.
        summary: the accuracies.
        device: the device of the computation.
    """

    checkpoint: Path
    epochs: int
    steps: int
    unit: str
    compared: list[str]
    splitting: Splitting
    strict: bool
    judgments: list[Judgment]
    summary: Summary
    device: SelectedDevice

    @property
    def accuracy(self) -> float:
        """The mean of the accuracies of the paradigms."""
        return self.summary.overall.mean


@memory_errors(
    "during the evaluation of minimal pairs",
    hint="pass a smaller --batch-size, --device cpu or fewer files",
)
def evaluate_pairs(
    path: Path,
    files: Sequence[Path],
    *,
    method: Method | None = None,
    score: ScoreKind | None = None,
    splitting: Splitting = "none",
    columns: Columns | None = None,
    strict: bool = False,
    predictions: Path | None = None,
    batch_size: int = BATCH_SIZE,
    cell: str | None = None,
    device_name: str = "auto",
    show_progress: bool = False,
) -> PairsResult:
    """Evaluates a checkpoint on minimal pairs.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        files: files of minimal pairs; see `read_minimal_pairs`.
        method: what is compared; None selects "target" for agreement files and "full" for others.
        score: how scores are computed; None selects "sum".
        splitting: how sentences are divided into words.
        columns: the columns of tables.
        strict: whether ties count as wrong instead of half.
        predictions: the file to write the judgments to; see `write_predictions`.
        batch_size: sentences that are scored at once.
        cell: the custom cell of the checkpoint, which the caller agrees to run.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded, or if it has no training
            counts, which SLOR needs.
        DataError: if a file cannot be read.
        UsageError: if the options do not apply to the files, the device is not available, or memory
            runs out.
    """
    materials = [read_minimal_pairs(file, columns) for file in files]
    check_options(materials, method, score)
    loaded = load_trusted_model(path, device_name, cell)
    if predictions is not None:
        aligned = [file.with_suffix(suffix) for file in files for suffix in SUFFIXES if file.suffix]
        has_suites = any(isinstance(material, Suite) for material in materials)
        check_predictions_path(predictions, [*files, *aligned, loaded.path], has_suites=has_suites)
    result = judge_materials(
        loaded,
        materials,
        method=method,
        score=score or "sum",
        splitting=splitting,
        strict=strict,
        batch_size=batch_size,
        show_progress=show_progress,
    )
    if predictions is not None:
        write_predictions(predictions, result.judgments, strict=strict)
    return result


def judge_materials(
    loaded: LoadedModel,
    materials: Sequence[Material],
    *,
    method: Method | None = None,
    score: ScoreKind = "sum",
    splitting: Splitting = "none",
    strict: bool = False,
    batch_size: int = BATCH_SIZE,
    show_progress: bool = False,
) -> PairsResult:
    """Returns the result of a model on the content of files.

    See `evaluate_pairs` for the arguments.

    Raises:
        CheckpointError: if the checkpoint has no training counts, which SLOR needs, or its scores
            are not finite.
        DataError: if there are no pairs, or a word is unknown in a closed vocabulary.
        UsageError: if the words of the model cannot be split as wanted.
    """
    judgments = _judgments(
        loaded,
        materials,
        method,
        score,
        splitting,
        batch_size=batch_size,
        show_progress=show_progress,
    )
    summary = summarize(judgments, strict=strict)
    _warn(summary, loaded.tokenizer.unit, splitting)
    return PairsResult(
        loaded.path,
        loaded.epochs,
        loaded.steps,
        loaded.tokenizer.unit,
        descriptions(materials, method, score),
        splitting,
        strict,
        judgments,
        summary,
        loaded.device,
    )


def _judgments(
    loaded: LoadedModel,
    materials: Sequence[Material],
    method: Method | None,
    score: ScoreKind,
    splitting: Splitting,
    *,
    batch_size: int,
    show_progress: bool,
) -> list[Judgment]:
    """Returns the judgment of each pair, in the order of the files."""
    unigram = _unigram(loaded) if score == "slor" else None
    judgments: list[Judgment] = []
    scored = 0
    with ProgressBar(sum(map(_sentences, materials))) if show_progress else nullcontext() as bar:

        def progress(sentences: int) -> None:
            nonlocal scored
            scored += sentences
            if bar is not None:
                bar.show(scored, ["minimal pairs", counted(scored, "sentence")])

        reader = Reader(loaded.model, loaded.tokenizer, splitting, batch_size, progress)
        for material in materials:
            judgments += _judge(reader, material, method, score, unigram)
    if not judgments:
        raise DataError("the files contain no pairs")
    scores = [each for judged in judgments for each in judged.scores or ()]
    if not all(map(math.isfinite, scores)):
        raise CheckpointError("the weights give no finite scores", where=str(loaded.path))
    return judgments


def _judge(
    reader: Reader,
    material: Material,
    method: Method | None,
    score: ScoreKind,
    unigram: NDArray[np.float64] | None,
) -> list[Judgment]:
    if isinstance(material, Suite):
        return judge_suite(reader, material)
    if isinstance(material, AgreementText):
        if method in (None, "target"):
            return judge_agreement(reader, material, score, unigram)
        material = [line.pair for line in material.lines]
    if method == "prefix":
        material = [pair for pair in material if pair.prefixes is not None]
    return judge_pairs(reader, material, method or "full", score, unigram)


def _sentences(material: Material) -> int:
    """Returns how many sentences are to be scored, counting those that occur twice."""
    if isinstance(material, Suite):
        return sum(len(item.conditions) for item in material.items)
    return len(material.lines) if isinstance(material, AgreementText) else 2 * len(material)


def _unigram(loaded: LoadedModel) -> NDArray[np.float64]:
    try:
        return unigram_nll(loaded.tokenizer.vocabulary)
    except ValueError as error:
        raise CheckpointError(
            f"--score slor needs the frequency of each {loaded.tokenizer.unit}: {error}",
            where=str(loaded.path),
            hint="use --score mean",
        ) from None


def _warn(summary: Summary, unit: str, splitting: Splitting) -> None:
    """Logs a warning if many pairs are the same for the model."""
    overall = summary.overall
    if overall.same_share > _MAX_SAME:
        advice = "; pass --tokenize ptb-lower or ptb if the model was trained on such text"
        logger.warning(
            "%.1f%% of the pairs are the same %ss for the model, which can only guess (%.0f%% of "
            "all %ss are not in its vocabulary)%s",
            100 * overall.same_share,
            unit,
            100 * overall.unknown_share,
            unit,
            advice if splitting == "none" and unit == "word" else "",
        )
