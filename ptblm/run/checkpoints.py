"""Describes and verifies checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, load_checkpoint
from ptblm.corpus.tokenizers import TOKENIZERS
from ptblm.errors import CheckpointError, PtblmError
from ptblm.files import os_errors
from ptblm.model.build import is_custom_cell
from ptblm.run.directory import RunDirectory, find_checkpoint
from ptblm.run.verify import verify


@dataclass(frozen=True)
class CheckpointInfo:
    """The content of a checkpoint.

    Attributes:
        path: the file.
        size: size of the file in bytes.
        checkpoint: the loaded checkpoint.
        epochs: completed epochs.
        steps: completed steps.
        parameters: number of trainable parameters.
        unit: name of a token.
        custom_cell: name of the custom cell, which was not run; None for a built-in cell.
        valid_perplexities: valid perplexity after each completed epoch.
    """

    path: Path
    size: int
    checkpoint: Checkpoint
    epochs: int
    steps: int
    parameters: int
    unit: str
    custom_cell: str | None
    valid_perplexities: list[float]


@dataclass(frozen=True)
class Verdict:
    """The result of verifying a checkpoint.

    Attributes:
        path: the file.
        epochs: completed epochs, if the checkpoint is usable.
        steps: completed steps, if the checkpoint is usable.
        problem: reason why the checkpoint is not usable; None if it is.
        custom_cell: name of the custom cell, which was not run; None for a built-in cell.
    """

    path: Path
    epochs: int = 0
    steps: int = 0
    problem: str | None = None
    custom_cell: str | None = None


def show_checkpoint(path: Path) -> CheckpointInfo:
    """Reads and verifies a checkpoint, or the last one of a run directory.

    Raises:
        CheckpointError: if there is no checkpoint or it is damaged.
    """
    path = find_checkpoint(path)
    with os_errors(CheckpointError):
        size = path.stat().st_size
    checkpoint = load_checkpoint(path)
    parameters = verify(checkpoint, path)
    epochs, steps = checkpoint.trained()
    return CheckpointInfo(
        path=path,
        size=size,
        checkpoint=checkpoint,
        epochs=epochs,
        steps=steps,
        parameters=parameters,
        unit=TOKENIZERS[checkpoint.parsed_config().data.tokenizer].unit,
        custom_cell=_custom_cell(checkpoint),
        valid_perplexities=_valid_perplexities(checkpoint),
    )


def verify_checkpoints(path: Path) -> list[Verdict]:
    """Verifies a checkpoint, or all checkpoints of a run directory.

    Raises:
        CheckpointError: if there is no checkpoint.
    """
    with os_errors(CheckpointError, fallback=path):
        paths = RunDirectory(path).all_checkpoints() if path.is_dir() else []
    verdicts = []
    for file in paths or [find_checkpoint(path)]:
        try:
            checkpoint = load_checkpoint(file)
            verify(checkpoint, file)
            epochs, steps = checkpoint.trained()
            verdicts.append(Verdict(file, epochs, steps, custom_cell=_custom_cell(checkpoint)))
        except PtblmError as error:
            verdicts.append(Verdict(file, problem=error.what))
    return verdicts


def _custom_cell(checkpoint: Checkpoint) -> str | None:
    config = checkpoint.parsed_config().model
    return config.cell.type if is_custom_cell(config) else None


def _valid_perplexities(checkpoint: Checkpoint) -> list[float]:
    """Returns the valid perplexity after each epoch; an empty list if the history is malformed."""
    history = checkpoint.train_state.get("history")
    epochs = history if isinstance(history, list) else []
    found = [done.get("valid_perplexity") for done in epochs if isinstance(done, dict)]
    valid = [value for value in found if isinstance(value, float)]
    return valid if len(valid) == len(epochs) else []
