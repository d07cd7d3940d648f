"""Tries a run out: loads everything, makes one step, says what a whole run would take."""

import resource
import sys
from itertools import islice
from pathlib import Path

import torch

from ptblm.config.schema import Config
from ptblm.run.directory import refuse_taken
from ptblm.run.memory import training_memory
from ptblm.run.setup import setup_run
from ptblm.training.records import StepDone


def dry_run(config: Config, run_dir: Path | None, *, overwrite: bool) -> list[str]:
    """Makes a step forward and backward, and returns what there is to say, line by line.

    Args:
        config: of the run.
        run_dir: where it would be kept.
        overwrite: whether it would replace a run that is there.

    Raises:
        PtblmError: whatever the real run would raise at its start.
    """
    if run_dir is not None:
        refuse_taken(run_dir, overwrite=overwrite)
    with training_memory(config):
        components = setup_run(config)
        trainer = components.trainer
        records = trainer.records()
        # The first one warms up; the one after it, where there is one, tells the pace. On a GPU
        # they are blocks of steps.
        record, *_ = steps = [step for step in islice(records, 2) if isinstance(step, StepDone)]
    weights = trainer.optimizer.parameters.values()
    held = sum(t.nbytes for t in [*weights, *trainer.optimizer.state_dict().values()])
    gradients = [parameter.grad for parameter in weights if parameter.grad is not None]
    held += sum((g._values() if g.is_sparse else g).nbytes for g in gradients)
    seconds, batches = steps[-1].epoch_seconds, steps[-1].batch
    if len(steps) > 1:
        seconds, batches = seconds - record.epoch_seconds, batches - record.batch
    pace = seconds / batches
    first = "first step " if record.batch == 1 else f"first {record.batch} steps"
    steps_in_all = record.batches * config.training.epochs
    corpus = components.corpus
    cut = [] if corpus.split_rule is None else [f"split            {corpus.split_rule}"]
    return [
        f"corpus           {corpus.name}, {len(corpus.vocabulary):,} {corpus.tokenizer.unit}s",
        *cut,
        f"device           {components.device}",
        f"parameters       {trainer.model.parameter_count():,}",
        f"steps per epoch  {record.batches:,} of {record.tokens} tokens",
        f"steps in all     {steps_in_all:,} in {config.training.epochs} epochs",
        f"{first:<17}perplexity {record.running_perplexity:.1f}",
        f"expected time    {steps_in_all * pace / 60:,.0f} minutes of training, "
        f"at {pace * 1000:,.0f} ms a step",
        f"expected memory  {_peak_memory(trainer.precision.device)} at its peak, of it "
        f"{_megabytes(held)} for weights, gradients and optimizer",
    ]


def _peak_memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{_megabytes(torch.cuda.max_memory_allocated(device))} on the GPU"
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return _megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
