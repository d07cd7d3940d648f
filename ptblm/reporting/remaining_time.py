"""Estimates the remaining time of a run from what its records took."""

import time

from ptblm.training.records import EpochDone, StepDone

# The pace of the last epoch counts as much as this share of the batches of the current one.
_WEIGHT_OF_LAST_EPOCH = 0.1


class RemainingTime:
    """The remaining time of a run, which includes validations and the test.

    Until the first validation ends, the estimate does not include validations and the test.

    Args:
        epochs: epochs of the whole run.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._epoch = 0
        self._first = (
            0.0,
            0,
        )  # time of a record, and completed batches: the epoch is timed from it
        self._last = (0.0, 0)
        self._pace: float | None = None  # seconds per batch of the last epoch
        self._validation = 0.0

    def after_step(self, step: StepDone) -> tuple[float, float]:
        """Returns the seconds until the end of the epoch's batches, and until that of the run."""
        self._last = (time.monotonic(), step.batch)
        if step.epoch != self._epoch:  # the first record of this process
            self._epoch, self._first = step.epoch, self._last
        seconds, batches = self._since_first()
        if self._pace is None:
            pace, weight = step.epoch_seconds / step.batch, 1.0
        else:
            pace, weight = self._pace, _WEIGHT_OF_LAST_EPOCH * step.batches
        pace = (pace * weight + seconds) / (weight + batches)
        epoch_left = pace * (step.batches - step.batch)
        epochs_left = self._epochs - step.epoch
        evaluations = epochs_left + 2  # the validation of this epoch, and the test
        rest = epochs_left * step.batches * pace + evaluations * self._validation
        return epoch_left, epoch_left + rest

    def after_epoch(self, done: EpochDone) -> None:
        """Learns the pace of an epoch and the time of its validation."""
        now = time.monotonic()
        if done.epoch == self._epoch:
            seconds, batches = self._since_first()
            self._pace = seconds / batches if batches else self._pace
            self._validation = now - self._last[0]
        self._epoch, self._first = done.epoch + 1, (now, 0)

    def _since_first(self) -> tuple[float, int]:
        return self._last[0] - self._first[0], self._last[1] - self._first[1]
