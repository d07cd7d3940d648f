"""Looks at checkpoints for people: what is in one, and which of a run's are good."""

from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, load_checkpoint
from ptblm.corpus.tokenizers import TOKENIZERS
from ptblm.errors import CheckpointError
from ptblm.run.directory import RunDirectory, find_checkpoint
from ptblm.run.setup import trained_model


def show_checkpoint(path: Path) -> list[str]:
    """What a checkpoint, or a run's last, holds, line by line.

    Raises:
        CheckpointError: if there is none, or it is damaged.
    """
    path = find_checkpoint(path)
    checkpoint, parameters = _loaded(path)
    epochs, steps = checkpoint.trained()
    unit = TOKENIZERS[checkpoint.parsed_config().data.tokenizer].unit
    versions = ", ".join(f"{name} {version}" for name, version in checkpoint.versions.items())
    tokens = len(checkpoint.vocabulary["tokens"])
    return [
        f"checkpoint   {path}, {path.stat().st_size:,} bytes, format {checkpoint.format}",
        f"trained      {epochs} epochs, {steps:,} steps",
        f"model        {parameters:,} parameters, {tokens:,} {unit}s",
        f"corpus       {checkpoint.corpus['name']}",
        f"written by   {versions}",
        *_history(checkpoint),
    ]


def verify_checkpoints(path: Path) -> list[tuple[str, bool]]:
    """A line for a checkpoint, or for each of a run's, and whether it is good.

    Raises:
        CheckpointError: if there is none.
    """
    directory = RunDirectory(path)
    paths = directory.all_checkpoints() if path.is_dir() else [find_checkpoint(path)]
    if not paths:
        find_checkpoint(path)
    verdicts = []
    for file in paths:
        try:
            epochs, steps = _loaded(file)[0].trained()
            verdicts.append((f"{file}: good, epoch {epochs}, step {steps:,}", True))
        except CheckpointError as error:
            verdicts.append((f"{file}: bad, {error.what}", False))
    return verdicts


def _loaded(path: Path) -> tuple[Checkpoint, int]:
    """A checkpoint whose weights fit its config, and how many parameters it has."""
    checkpoint = load_checkpoint(path)
    model = trained_model(checkpoint.parsed_config().model, checkpoint, path)
    return checkpoint, model.parameter_count()


def _history(checkpoint: Checkpoint) -> list[str]:
    history = checkpoint.train_state.get("history")
    if not history or not isinstance(history, list) or not isinstance(history[-1], dict):
        return []
    valid = history[-1].get("valid_perplexity")
    return [f"valid        perplexity {valid:.2f}"] if isinstance(valid, float) else []
