"""Loads the checkpoints of an evaluation and prepares its pipeline."""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from ptblm.config.evaluation import EvaluationSettings
from ptblm.corpus.reader import EncodedText
from ptblm.errors import CheckpointError, DataError, PtblmError, UsageError
from ptblm.evaluation.scorers.dynamic import gradient_rms
from ptblm.evaluation.scorers.pipeline import Pipeline
from ptblm.evaluation.scorers.reader import has_dropout
from ptblm.files import open_regular, os_errors
from ptblm.progress_bar import ProgressBar
from ptblm.run.evaluated_text import read_evaluated_split
from ptblm.run.load_model import LoadedModel, load_trusted_model

logger = logging.getLogger(__name__)

_WITHOUT_TRAINING_TEXT = (
    "dynamic evaluation computes the size of gradients on the training text; rule: sgd, as in "
    "--dynamic rule=sgd, does not need it"
)


def load_models(paths: Sequence[Path], device_name: str, cell: str | None) -> list[LoadedModel]:
    """Loads the checkpoints of an ensemble.

    Args:
        paths: checkpoints or run directories, at least one.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        cell: the custom cell of the checkpoints, which the caller agrees to run.

    Raises:
        CheckpointError: if a checkpoint cannot be loaded.
        UsageError: if the device is not available, or the checkpoints have different vocabularies.
    """
    models = [load_trusted_model(path, device_name, cell) for path in paths]
    first = models[0]
    for other in models[1:]:
        if other.tokenizer.name != first.tokenizer.name:
            difference = f"{other.tokenizer.unit}s instead of {first.tokenizer.unit}s as tokens"
        elif other.tokenizer.vocabulary.symbols != first.tokenizer.vocabulary.symbols:
            difference = f"another vocabulary than {first.path}"
        else:
            continue
        raise UsageError(
            f"the checkpoint has {difference}",
            where=str(other.path),
            hint="the checkpoints of an ensemble need the same tokens in the same order",
        )
    return models


def make_pipeline(
    models: Sequence[LoadedModel], settings: EvaluationSettings, *, show_progress: bool = False
) -> Pipeline | None:
    """Returns the pipeline of an evaluation; None for the static evaluation of one model.

    Args:
        models: the models.
        settings: the settings.
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if the training text of a checkpoint is needed and may not be read.
        DataError: if it cannot be read.
        UsageError: if the settings do not fit the models.
    """
    check_settings(models, settings)
    if len(models) == 1 and settings.is_static():
        return None
    dynamic, rms = settings.active().dynamic, None
    if dynamic is not None and dynamic.rule == "rms":
        rms = training_rms(models, dynamic.segment_length, show_progress=show_progress)
    return Pipeline(
        [loaded.model for loaded in models], settings, models[0].config.training.num_steps, rms
    )


def check_settings(models: Sequence[LoadedModel], settings: EvaluationSettings) -> None:
    """Checks that settings fit the models; logs a note if they were tuned for other ones.

    Raises:
        UsageError: if they do not fit.
    """
    weights = settings.weights
    if weights is not None and len(weights) != len(models):
        raise UsageError(
            f"the settings contain {len(weights):,} weights of checkpoints, and the number of "
            f"checkpoints is {len(models):,}",
            hint="pass the checkpoints for which the settings were tuned, in the same order",
        )
    for loaded in models if settings.active().monte_carlo is not None else []:
        if not has_dropout(loaded.model):
            raise UsageError(
                "Monte-Carlo dropout: the model has no dropout, so all samples are equal",
                where=str(loaded.path),
                hint="omit --mc-samples, or set monte_carlo.samples to 0",
            )
    if settings.tuned is not None:
        tuned = [each.sha256 for each in settings.tuned.checkpoints]
        if tuned != [file_sha256(loaded.path) for loaded in models]:
            files = ", ".join(each.file for each in settings.tuned.checkpoints)
            logger.info(f"the settings were tuned for other checkpoints: {files}")


def training_rms(
    models: Sequence[LoadedModel], segment_length: int, *, show_progress: bool = False
) -> list[list[Tensor]]:
    """Returns the root mean square of the gradients of each model on its training text.

    Args:
        models: the models.
        segment_length: tokens of a segment.
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if a checkpoint names a text that may not be read.
        DataError: if a text cannot be read.
        UsageError: if the text is unknown.
    """
    found = []
    with ProgressBar(len(models)) if show_progress else nullcontext() as bar:
        for index, loaded in enumerate(models):

            def show(share: float, done: int = index) -> None:
                if bar is not None:
                    bar.show(done + share, ["gradients of the training text", f"{share:.0%}"])

            ids = _training_text(loaded).ids
            found.append(gradient_rms(loaded.model, ids, segment_length, show))
    return found


def _training_text(loaded: LoadedModel) -> EncodedText:
    try:
        text = read_evaluated_split(loaded, "train")
        if loaded.corpus_sha256["train"] not in ("", text.encoded.sha256):
            problem = "the train split is not the text that the run began with"
            raise DataError(problem, where=loaded.config.data.path)
        return text.encoded
    except (CheckpointError, DataError, UsageError) as error:
        raise _with_hint(error) from None


def _with_hint(error: PtblmError) -> PtblmError:
    """Returns an error about the training text with what to do without that text."""
    return type(error)(error.problems, where=error.where, hint=_WITHOUT_TRAINING_TEXT)


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a checkpoint file, in hexadecimal.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    with os_errors(CheckpointError, where=path), open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
