"""Writes TensorBoard curves of a run if `run.tensorboard` is true."""

from pathlib import Path

from ptblm.errors import UsageError
from ptblm.training.records import EpochDone, Record, StepDone


class TensorBoard:
    """Writes the metrics of a run as scalars over steps.

    Args:
        directory: directory of the event files.
        purge_step: first step to ignore in existing event files, because a resumed run rewrites
            it and all later steps.
        log_every: steps between two points of the training curves.

    Raises:
        UsageError: if TensorBoard is not installed.
    """

    def __init__(self, directory: Path, purge_step: int, log_every: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "run.tensorboard requires the tensorboard package",
                hint="pip install 'ptblm[tensorboard]'",
            ) from None
        self._writer = SummaryWriter(str(directory), purge_step=purge_step)
        self._log_every = log_every

    def write(self, record: Record) -> None:
        """Adds the metrics of a record to the curves."""
        if isinstance(record, StepDone) and record.step % self._log_every == 0:
            self._add("optim/learning_rate", record.learning_rate, record.step)
            if record.grad_norm is not None:
                self._add("optim/grad_norm", record.grad_norm, record.step)
            self._add("speed/tokens_per_second", record.tokens_per_second, record.step)
            self._add("train/perplexity", record.running_perplexity, record.step)
        elif isinstance(record, EpochDone):
            self._add("valid/perplexity", record.valid_perplexity, record.step)
            self._writer.flush()

    def close(self) -> None:
        """Writes pending points and closes the event file."""
        self._writer.close()

    def _add(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(tag, value, step)
