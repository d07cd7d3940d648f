"""Learning-rate schedules against hand-computed values, and warm-up of each."""

import math

import pytest

from ptblm.config.loading import load_config
from ptblm.config.schedules import (
    ConstantSchedule,
    CosineSchedule,
    PlateauSchedule,
    ScheduleConfig,
    TutorialSchedule,
)
from ptblm.config.training import TrainingConfig
from ptblm.training.schedule import has_stopped_improving, learning_rate


def rate(
    config: TrainingConfig, epoch: int = 0, batch: int = 0, valid: list[float] | None = None
) -> float:
    """Returns the learning rate in a run with ten batches per epoch."""
    place = {"epoch": epoch, "batch": batch, "batches": 10, "step": 10 * epoch + batch}
    return learning_rate(config, **place, valid=valid or [])


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("small", {0: 1.0, 3: 1.0, 4: 0.5, 5: 0.25, 12: 0.5**9}),
        ("medium", {0: 1.0, 5: 1.0, 6: 0.8, 38: 0.8**33}),
        ("large", {0: 1.0, 13: 1.0, 14: 1 / 1.15, 54: 1.15**-41}),
    ],
)
def test_tutorial_decays_every_epoch_after_the_first(name: str, rates: dict[int, float]) -> None:
    config = load_config(name).training
    for epoch, expected in rates.items():
        for batch in (0, 9):
            assert rate(config, epoch, batch) == pytest.approx(expected, rel=1e-12)


def test_constant_schedule() -> None:
    config = TrainingConfig(schedule=ConstantSchedule(), learning_rate=0.3, epochs=4)
    positions = [(0, 0), (1, 5), (3, 9)]
    assert [rate(config, epoch, batch, [9.0] * epoch) for epoch, batch in positions] == [0.3] * 3


@pytest.mark.parametrize(
    ("patience", "valid", "decays"),
    [
        (0, [], 0),
        (0, [90.0, 80.0, 70.0], 0),
        (0, [90.0, 80.0, 80.0], 1),  # equal to the best is no improvement
        (0, [90.0, 95.0, 92.0, 91.0], 3),  # better than the last but not than the best
        (0, [90.0, 95.0, 80.0, 85.0], 2),
        (1, [90.0, 95.0], 0),
        (1, [90.0, 95.0, 95.0], 1),
        (1, [90.0, 95.0, 95.0, 95.0], 1),  # a decay restarts the count
        (1, [90.0, 95.0, 95.0, 95.0, 95.0], 2),
        (1, [90.0, 95.0, 89.0, 95.0], 0),  # an improvement restarts the count
        (2, [90.0, 95.0, 95.0, 95.0], 1),
    ],
)
def test_plateau_decays_after_patience(patience: int, valid: list[float], decays: int) -> None:
    config = TrainingConfig(
        schedule=PlateauSchedule(patience=patience, decay=0.3), learning_rate=0.7
    )
    for batch in (0, 9):
        assert rate(config, len(valid), batch, valid) == 0.7 * 0.3**decays


def test_cosine_decays_over_all_epochs() -> None:
    """Each of four epochs of ten batches covers 45 degrees; 60 degrees are reached after 13.3."""
    config = TrainingConfig(
        schedule=CosineSchedule(final_learning_rate=0.2), learning_rate=1.0, epochs=4
    )
    assert rate(config) == 1.0
    assert rate(config, 1) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, rel=1e-12)
    assert rate(config, 2) == pytest.approx(0.6, rel=1e-12)
    assert rate(config, 3) == pytest.approx(0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2, rel=1e-12)
    assert rate(config, 4) == pytest.approx(0.2, rel=1e-12)
    # A third of 40 steps lies between steps 13 and 14: cos 60° = 1/2.
    assert rate(config, 1, 3) > 0.2 + 0.8 * 0.75 > rate(config, 1, 4)
    steps = [rate(config, step // 10, step % 10) for step in range(40)]
    assert steps == sorted(steps, reverse=True)
    assert 0.2 < steps[-1] < 0.202


@pytest.mark.parametrize(
    "schedule",
    [
        TutorialSchedule(full_rate_epochs=1),
        PlateauSchedule(),
        CosineSchedule(),
        ConstantSchedule(),
    ],
    ids=lambda schedule: schedule.type,
)
def test_warmup_multiplies_the_rate_of_any_schedule(schedule: ScheduleConfig) -> None:
    without = TrainingConfig(schedule=schedule, learning_rate=0.5)
    warm = without.model_copy(update={"warmup_steps": 16})
    valid = [90.0, 91.0]
    for step in range(30):
        place = step // 10, step % 10, valid[: step // 10]
        factor = (step + 1) / 16 if step < 16 else 1
        assert rate(warm, *place) == rate(without, *place) * factor


@pytest.mark.parametrize(
    ("valid", "patience", "stopped"),
    [
        ([], 1, False),
        ([5.0], 1, False),
        ([5.0, 5.0], 1, True),  # equal is not better
        ([5.0, 4.0, 4.5], 1, True),
        ([5.0, 4.0, 4.5], 2, False),
        ([5.0, 6.0, 5.5, 4.0], 2, False),
        ([5.0, 4.0, 4.5, 4.2], 2, True),
        ([5.0, 4.0, 4.5, 4.2, 4.1], 2, True),  # after the patience of a resumed run was lowered
        ([5.0, 6.0, 7.0], None, False),
    ],
)
def test_early_stopping_counts_epochs_since_the_best(
    valid: list[float], patience: int | None, stopped: bool
) -> None:
    assert has_stopped_improving(valid, patience) == stopped
