"""The estimate of the remaining time, with simulated clocks and real runs."""

import random
from collections.abc import Iterator

import pytest

from ptblm.reporting.remaining_time import RemainingTime
from ptblm.training.records import EpochDone, StepDone
from tests.reporting.records import EPOCH, STEP

BATCHES, EPOCHS = 200, 5
PACE, STARTUP, VALIDATION = 0.5, 20.0, 15.0


class Clock:
    """A simulated clock that also is a run: it yields the record at each time."""

    def __init__(self, start_epoch: int = 1, start_batch: int = 0) -> None:
        self.now = 1000.0
        self._start = start_epoch, start_batch
        self._random = random.Random(1)

    def records(self) -> Iterator[StepDone | EpochDone]:
        first_epoch, done = self._start
        seconds = done * PACE
        for epoch in range(first_epoch, EPOCHS + 1):
            for batch in range(done + 1, BATCHES + 1):
                took = PACE * self._random.uniform(0.5, 1.5)
                took += STARTUP if (epoch, batch) == (first_epoch, done + 1) else 0
                self.now += took
                seconds += took
                yield step(epoch, batch, seconds)
            self.now += VALIDATION
            yield epoch_done(epoch)
            done, seconds = 0, 0.0
        self.now += VALIDATION  # the test


def step(epoch: int, batch: int, seconds: float) -> StepDone:
    values = {"epoch": epoch, "batch": batch, "batches": BATCHES, "epoch_seconds": seconds}
    return StepDone(**{**vars(STEP), **values})


def epoch_done(epoch: int) -> EpochDone:
    return EpochDone(**{**vars(EPOCH), "epoch": epoch})


@pytest.mark.parametrize("start", [(1, 0), (2, 150)], ids=["new run", "resumed run"])
def test_estimate_is_within_20_percent_after_an_epoch(
    start: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(*start)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    remaining = RemainingTime(EPOCHS)
    estimates = []
    for record in clock.records():
        if isinstance(record, EpochDone):
            remaining.after_epoch(record)
        else:
            _, run_left = remaining.after_step(record)
            estimates.append((record.epoch, clock.now, run_left))
    checked = [(now, left) for epoch, now, left in estimates if epoch > start[0]]
    assert len(checked) == (EPOCHS - start[0]) * BATCHES
    for now, left in checked:
        assert left == pytest.approx(clock.now - now, rel=0.2)


def test_start_of_a_process_does_not_count_for_later_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    remaining = RemainingTime(EPOCHS)
    for record in clock.records():
        if isinstance(record, StepDone) and record.batch == 150:
            epoch_left, _ = remaining.after_step(record)
            assert epoch_left == pytest.approx(50 * PACE, rel=0.4)  # the first batch took 20.5 s
            return
        if isinstance(record, StepDone):
            remaining.after_step(record)


def test_first_record_uses_the_time_of_the_epoch_so_far() -> None:
    left, run_left = RemainingTime(EPOCHS).after_step(step(5, 100, 30.0))
    assert left == run_left == pytest.approx(30.0)
