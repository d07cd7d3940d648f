"""Describes and verifies checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, load_checkpoint
from ptblm.corpus.tokenizers import TOKENIZERS
from ptblm.errors import PtblmError
from ptblm.run.directory import RunDirectory, find_checkpoint
from ptblm.run.load_model import model_from_checkpoint


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
        valid_perplexities: valid perplexity after each completed epoch.
    """

    path: Path
    size: int
    checkpoint: Checkpoint
    epochs: int
    steps: int
    parameters: int
    unit: str
    valid_perplexities: list[float]


@dataclass(frozen=True)
class Verdict:
    """The result of verifying a checkpoint.

    Attributes:
        path: the file.
        epochs: completed epochs, if the checkpoint is usable.
        steps: completed steps, if the checkpoint is usable.
        problem: reason why the checkpoint is not usable; None if it is.
    """

    path: Path
    epochs: int = 0
    steps: int = 0
    problem: str | None = None


def show_checkpoint(path: Path) -> CheckpointInfo:
    """Reads and verifies a checkpoint, or the last one of a run directory.

    Raises:
        CheckpointError: if there is no checkpoint or it is damaged.
    """
    path = find_checkpoint(path)
    checkpoint, parameters = _verified(path)
    epochs, steps = checkpoint.trained()
    return CheckpointInfo(
        path=path,
        size=path.stat().st_size,
        checkpoint=checkpoint,
        epochs=epochs,
        steps=steps,
        parameters=parameters,
        unit=TOKENIZERS[checkpoint.parsed_config().data.tokenizer].unit,
        valid_perplexities=_valid_perplexities(checkpoint),
    )


def verify_checkpoints(path: Path) -> list[Verdict]:
    """Verifies a checkpoint, or all checkpoints of a run directory.

    Raises:
        CheckpointError: if there is no checkpoint.
    """
    paths = RunDirectory(path).all_checkpoints() if path.is_dir() else []
    verdicts = []
    for file in paths or [find_checkpoint(path)]:
        try:
            epochs, steps = _verified(file)[0].trained()
            verdicts.append(Verdict(file, epochs, steps))
        except PtblmError as error:
            verdicts.append(Verdict(file, problem=error.what))
    return verdicts


def _verified(path: Path) -> tuple[Checkpoint, int]:
    """Returns a checkpoint and its number of parameters; checks the weights against the config."""
    checkpoint = load_checkpoint(path)
    model = model_from_checkpoint(checkpoint, checkpoint.parsed_config().model, path)
    return checkpoint, model.parameter_count()


def _valid_perplexities(checkpoint: Checkpoint) -> list[float]:
    """Returns the valid perplexity after each epoch; an empty list if the history is malformed."""
    history = checkpoint.train_state.get("history")
    epochs = history if isinstance(history, list) else []
    found = [done.get("valid_perplexity") for done in epochs if isinstance(done, dict)]
    valid = [value for value in found if isinstance(value, float)]
    return valid if len(valid) == len(epochs) else []
