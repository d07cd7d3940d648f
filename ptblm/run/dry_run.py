"""Tries a run out: loads everything, makes one step, says what a whole run would take."""

import resource
import sys

import torch

from ptblm.config.schema import Config
from ptblm.run.assemble import assemble
from ptblm.training.records import StepDone


def dry_run(config: Config) -> list[str]:
    """Makes one step forward and backward, and returns what there is to say, line by line.

    Raises:
        PtblmError: whatever the real run would raise at its start.
    """
    assembly = assemble(config)
    trainer = assembly.trainer
    record = next(trainer.records())
    if not isinstance(record, StepDone):
        raise TypeError(f"the first record of a run is a step's, not {record}")
    parameters = trainer.model.parameter_count()
    bytes_each = trainer.model.softmax.weight.element_size()
    seconds = record.epoch_seconds * record.batches * config.training.epochs
    return [
        f"corpus           {assembly.corpus.name}, {len(assembly.corpus.vocabulary):,} words",
        f"device           {assembly.device}",
        f"parameters       {parameters:,}",
        f"steps per epoch  {record.batches:,} of {record.tokens} tokens",
        f"steps in all     {record.batches * config.training.epochs:,}"
        f" in {config.training.epochs} epochs",
        f"first step       perplexity {record.running_perplexity:.1f}, {record.epoch_seconds:.2f} s"
        f" (at that pace, {seconds / 60:,.0f} minutes of training; later steps are faster)",
        f"expected memory  {_peak_memory(trainer.arithmetic.device)} at its peak, of it "
        f"{_megabytes(2 * parameters * bytes_each)} for weights and gradients",
    ]


def _peak_memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{_megabytes(torch.cuda.max_memory_allocated(device))} on the GPU"
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return _megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
