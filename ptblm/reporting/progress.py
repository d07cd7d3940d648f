"""Progress of a run: a bar on a terminal, and a line every 30 seconds otherwise."""

import logging
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from ptblm.progress_bar import ProgressBar
from ptblm.reporting.remaining_time import RemainingTime
from ptblm.reporting.table import EntropyBounds
from ptblm.terminal import OutputError, print_lines, print_output
from ptblm.training.records import EpochDone, Evaluating, Record, StepDone

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows the progress of a run.

    Args:
        epochs: total epochs of the run, for the estimate of the remaining time.
        bounds: the lowest possible expected perplexity of each split, if known.
        stream: output stream; None selects stderr.
    """

    def __init__(self, epochs: int, bounds: EntropyBounds, stream: TextIO | None = None) -> None:
        self._epochs = epochs
        self._remaining = RemainingTime(epochs)
        self._bounds = bounds
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._bar: ProgressBar | None = None
        self._task = ""
        self._last_line = time.monotonic()

    def show(self, record: Record) -> None:
        """Updates the bar, or writes a line if the last line is at least 30 seconds old."""
        if isinstance(record, StepDone):
            self._show_step(record)
        elif isinstance(record, Evaluating):
            self._show_evaluating(record)
        elif isinstance(record, EpochDone):
            self._remaining.after_epoch(record)
            self.close()

    def print_lines(self, lines: list[str]) -> None:
        """Prints lines to stdout above the bar. If that fails, training continues."""
        try:
            print_output(lines)
        except OutputError as error:
            logger.warning(f"cannot write to stdout ({error.reason}); training continues")

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._task = ""

    def _show_step(self, record: StepDone) -> None:
        epoch_left, run_left = self._remaining.after_step(record)
        metrics = [
            f"perplexity {record.running_perplexity:.2f}",
            f"{_duration(epoch_left)} left (run {_duration(run_left)})",
            f"{record.tokens_per_second:,.0f} tokens/s",
        ]
        self._update(
            f"epoch {record.epoch:,}/{self._epochs:,}", record.batch, record.batches, metrics
        )

    def _show_evaluating(self, record: Evaluating) -> None:
        task = f"{record.split} of best epoch" if record.of_best else record.split
        metrics = [f"perplexity {record.score.perplexity:.2f}"]
        if record.split in self._bounds:
            metrics.append(f"entropy bound {self._bounds[record.split]:.2f}")
        self._update(task, record.score.tokens, record.total_tokens, metrics)

    def _update(self, task: str, done: int, total: int, metrics: Sequence[str]) -> None:
        if not self._is_terminal:
            now = time.monotonic()
            if now - self._last_line >= SECONDS_BETWEEN_LINES:
                self._last_line = now
                line = f"{task}: {done:,} of {total:,}, {', '.join(metrics)}"
                print_lines([line], self._stream)
            return
        if task != self._task or self._bar is None:
            self.close()
            self._task = task
            # A resumed epoch starts at its current batch.
            self._bar = ProgressBar(total, done, self._stream)
        self._bar.show(done, [task, *metrics, f"{done:,}/{total:,}"])


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
