"""The progress bar on a terminal; a plain line now and then where there is none."""

import os
import sys
import time
from typing import NoReturn

from tqdm import tqdm

from ptblm.reporting.table import Floors, with_floor
from ptblm.training.records import EpochDone, Evaluating, Record, StepDone

SECONDS_BETWEEN_LINES = 30.0

_BAR = "{desc}{postfix} |{bar:12}| {n_fmt}/{total_fmt}"


class Progress:
    """Shows records as they come, on stderr.

    Args:
        epochs: of the whole run, for the time that is left of it.
        floors: the lowest perplexity an honest model can reach, where that is known.
    """

    def __init__(self, epochs: int, floors: Floors) -> None:
        self._epochs = epochs
        self._floors = floors
        self._terminal = sys.stderr.isatty()
        self._bar: tqdm[NoReturn] | None = None
        self._task = ""
        self._last_line = time.monotonic()

    def show(self, record: Record) -> None:
        """Moves the bar, or writes a line if the last one is old enough."""
        if isinstance(record, StepDone):
            self._show_step(record)
        elif isinstance(record, Evaluating):
            self._show_evaluating(record)
        elif isinstance(record, EpochDone):
            self.close()

    def print_lines(self, lines: list[str]) -> None:
        """Writes to stdout without breaking the bar; a reader who left is no reason to stop."""
        try:
            with tqdm.external_write_mode(file=sys.stdout):
                print("\n".join(lines), flush=True)
        except OSError as error:
            print(f"warning: stdout is gone ({error.strerror}); going on", file=sys.stderr)
            # Python must not try again when it exits, nor we with the next line.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._task = ""

    def _show_step(self, record: StepDone) -> None:
        task = f"epoch {record.epoch}/{self._epochs}"
        seconds_per_batch = record.epoch_seconds / record.batch
        epoch_left = seconds_per_batch * (record.batches - record.batch)
        later_epochs = (self._epochs - record.epoch) * record.batches * seconds_per_batch
        figures = (
            f"perplexity {record.running_perplexity:.2f}, "
            f"{record.tokens_per_second:,.0f} tokens/s, "
            f"{_duration(epoch_left)} left (run {_duration(epoch_left + later_epochs)})"
        )
        self._advance(task, record.batch, record.batches, figures)

    def _show_evaluating(self, record: Evaluating) -> None:
        figures = f"perplexity {with_floor(record.score.perplexity, self._floors, record.split)}"
        self._advance(record.split, record.score.tokens, record.total_tokens, figures)

    def _advance(self, task: str, done: int, total: int, figures: str) -> None:
        if not self._terminal:
            now = time.monotonic()
            if now - self._last_line >= SECONDS_BETWEEN_LINES:
                self._last_line = now
                print(f"{task}: {done:,} of {total:,}, {figures}", file=sys.stderr, flush=True)
            return
        if task != self._task:
            self.close()
            self._task = task
            # The last record's count may not be the bar's: a resumed epoch starts in its middle.
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=task,
                postfix=figures,
                bar_format=_BAR,
                leave=False,
                file=sys.stderr,
            )
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(done - self._bar.n)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
