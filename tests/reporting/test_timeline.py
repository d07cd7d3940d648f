"""The positions of records on the x-axis, in runs of known length and speed."""

import math
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.reporting.history import RunHistory, StepMetrics
from ptblm.reporting.timeline import timeline
from ptblm.training.records import EpochDone


def history(steps: list[StepMetrics], epochs: list[EpochDone], *overrides: str) -> RunHistory:
    config = load_config("test", overrides)
    return RunHistory(Path("/run"), config, steps, epochs, {}, {}, "unfinished")


def step(epoch: int, number: int, speed: float = 1000.0) -> StepMetrics:
    return StepMetrics(epoch, number, 1.0, 5.0, 2.0, 100.0, speed)


def epoch(number: int, last_step: int, seconds: float, speed: float) -> EpochDone:
    return EpochDone(number, last_step, 1.0, 90.0, 80.0, seconds, speed, best=True)


def test_positions_in_complete_epochs() -> None:
    # 100 steps of 200 tokens in 20 s, then 50 steps of 400 tokens in 10 s.
    epochs = [epoch(1, 100, 20.0, 1000.0), epoch(2, 150, 10.0, 2000.0)]
    run = history([step(1, 25), step(1, 100), step(2, 110, 2000.0)], epochs)
    steps, ends = timeline(run)
    assert [at.steps for at in steps] == [25, 100, 110]
    assert [at.epochs for at in steps] == pytest.approx([0.25, 1.0, 1.2])
    assert [at.tokens for at in steps] == pytest.approx([0.005, 0.02, 0.024])
    assert [at.hours * 3600 for at in steps] == pytest.approx([5, 20, 22])
    assert [at.epochs for at in ends] == [1, 2]
    assert [at.tokens for at in ends] == pytest.approx([0.02, 0.04])
    assert [at.hours * 3600 for at in ends] == pytest.approx([20, 30])


def test_epoch_in_progress_is_as_long_as_the_one_before() -> None:
    steps, _ = timeline(history([step(2, 150)], [epoch(1, 100, 20.0, 1000.0)]))
    assert steps[0].epochs == pytest.approx(1.5)
    assert steps[0].tokens == pytest.approx(0.03)
    assert steps[0].hours * 3600 == pytest.approx(30)


def test_first_epoch_in_progress_has_tokens_but_no_length() -> None:
    sizes = ["training.batch_size=10", "training.num_steps=20"]
    steps, ends = timeline(history([step(1, 50)], [], *sizes))
    assert (steps[0].steps, ends) == (50, [])
    assert steps[0].tokens == pytest.approx(0.01)
    assert steps[0].hours * 3600 == pytest.approx(10)
    assert math.isnan(steps[0].epochs)


def test_values_of_strangers_are_gaps_not_errors() -> None:
    odd = [epoch(1, 100, math.inf, math.nan), epoch(2, 100, -1.0, 0.0), epoch(9, 3, 1e300, 1e300)]
    steps, ends = timeline(history([step(1, 10**19, 0.0), step(2, -5, math.inf)], odd))
    assert (len(steps), len(ends)) == (2, 3)
    assert math.isnan(steps[0].hours)
