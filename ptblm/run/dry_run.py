"""Dry run: sets up a run, runs the first steps, and estimates time and memory."""

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from ptblm.backend.device import SelectedDevice
from ptblm.config.schema import Config
from ptblm.corpus.corpus import Corpus
from ptblm.reporting.console import batch_notes, head_notes, optimizer_notes
from ptblm.run.directory import check_available
from ptblm.run.initial import InitialModel
from ptblm.run.memory import training_memory_errors
from ptblm.run.setup import RunComponents, setup_run
from ptblm.training.records import StepDone


@dataclass(frozen=True)
class DryRun:
    """The estimated time and memory of a run.

    Attributes:
        corpus: the text.
        device: the device.
        parameters: number of trainable parameters.
        steps_per_epoch: steps in the first epoch.
        tokens_per_step: mean number of targets in a step.
        epochs: epochs of the run.
        first_steps: number of steps in `first_perplexity`.
        first_perplexity: perplexity of the first steps.
        seconds_per_step: time of a step with the mean number of targets, after the first steps.
        held_bytes: memory of weights, averages of the weights, gradients and optimizer state.
        peak_bytes: peak memory of the process or the GPU; None if it is unknown.
        notes: notes on the optimizer, on texts that are short for the batch size and the number of
            steps, and on the order of the vocabulary.
    """

    corpus: Corpus
    device: SelectedDevice
    parameters: int
    steps_per_epoch: int
    tokens_per_step: float
    epochs: int
    first_steps: int
    first_perplexity: float
    seconds_per_step: float
    held_bytes: int
    peak_bytes: int | None
    notes: list[str]


def dry_run(
    config: Config,
    run_dir: Path | None = None,
    *,
    overwrite: bool = False,
    initial: InitialModel | None = None,
) -> DryRun:
    """Runs the first steps of a run, without a run directory.

    The ids of a large corpus are added to the cache.

    Args:
        config: the config of the run.
        run_dir: the run directory to check; None checks no directory.
        overwrite: whether the run may delete an existing run in the directory.
        initial: the checkpoint with the initial weights; None for random weights.

    Raises:
        PtblmError: any error that the run would raise when it starts.
    """
    if run_dir is not None:
        check_available(run_dir, delete_with="--overwrite" if overwrite else None)
    with training_memory_errors(config):
        components = setup_run(config, initial=initial)
        # The first record includes warm-up costs, so the second record, if any, is used for the
        # time per step. With CUDA graphs, a record covers several steps.
        records = islice(components.trainer.records(), 2)
        first, *rest = [record for record in records if isinstance(record, StepDone)]
    seconds, tokens = first.epoch_seconds, first.epoch_tokens
    if rest:
        seconds, tokens = rest[0].epoch_seconds - seconds, rest[0].epoch_tokens - tokens
    text = components.trainer.training_text.epoch(0)
    tokens_per_step = text.count_targets(len(text)) / len(text)
    return DryRun(
        corpus=components.corpus,
        device=components.device,
        parameters=components.trainer.model.parameter_count(),
        steps_per_epoch=first.batches,
        tokens_per_step=tokens_per_step,
        epochs=config.training.epochs,
        first_steps=first.batch,
        first_perplexity=first.running_perplexity,
        seconds_per_step=seconds / tokens * tokens_per_step,
        held_bytes=_held_bytes(components),
        peak_bytes=_peak_bytes(components.device.device),
        notes=[
            *optimizer_notes(components.corpus, config.training),
            *batch_notes(components.corpus, config.training),
            *head_notes(components.corpus, config.model),
        ],
    )


def _held_bytes(components: RunComponents) -> int:
    """Returns the memory of weights, their averages, optimizer state and gradients."""
    optimizer = components.trainer.optimizer
    averages = components.trainer.averages.tensors()
    weights = optimizer.parameters.values()
    gradients = [parameter.grad for parameter in weights if parameter.grad is not None]
    values = [g._values() if g.is_sparse else g for g in gradients]
    return sum(t.nbytes for t in [*weights, *averages, *optimizer.state_dict().values(), *values])


def _peak_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # not available on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
