"""Learning-rate schedules against hand-computed values, and warm-up of each."""

import itertools
import math
from typing import Any

import pytest

from ptblm.config.loading import load_config
from ptblm.config.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    ScheduleConfig,
    TutorialSchedule,
)
from ptblm.config.training import TrainingConfig
from ptblm.errors import ConfigError
from ptblm.training.schedule import has_stopped_improving, learning_rate, scheduled_momentum


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
    ("flat", "final", "rates"),
    [
        (0.5, 0.0, {0: 2.0, 19: 2.0, 20: 2.0, 21: 1.9, 30: 1.0, 39: 0.1, 40: 0.0}),
        (0.0, 0.0, {0: 2.0, 1: 1.95, 20: 1.0, 39: 0.05}),
        (0.75, 1.0, {0: 2.0, 30: 2.0, 35: 1.5, 39: 1.1, 40: 1.0}),
    ],
)
def test_linear_is_flat_and_then_a_line_to_the_end(
    flat: float, final: float, rates: dict[int, float]
) -> None:
    schedule = LinearSchedule(flat=flat, final_learning_rate=final)
    config = TrainingConfig(schedule=schedule, learning_rate=2.0, epochs=4)
    for step, expected in rates.items():
        assert rate(config, step // 10, step % 10) == pytest.approx(expected, abs=1e-12)


def test_one_cycle_has_the_shape_of_fast_ai() -> None:
    """90 epochs: 7.5 up from a tenth, 37.5 flat, 37.5 down to a tenth, 7.5 cosine to zero."""
    schedule = OneCycleSchedule(warmup_share=7.5 / 90, flat=37.5 / 90, cooldown=7.5 / 90)
    config = TrainingConfig(schedule=schedule, learning_rate=5e-3, epochs=90)
    rates = {0: 0.1, 3.7: 0.544, 7.5: 1.0, 30: 1.0, 45: 1.0, 60: 0.64, 82.5: 0.1, 85: 0.075, 90: 0}
    for epoch, factor in rates.items():
        batch = round((epoch - int(epoch)) * 10)
        found = rate(config, int(epoch), batch)
        assert found == pytest.approx(5e-3 * factor, rel=1e-9, abs=1e-12), epoch
    last = rate(config, 89, 9)
    assert 0 < last < 5e-3 * 0.1 * 1e-3


@pytest.mark.parametrize(
    ("shares", "rates"),
    [
        ({"warmup_share": 0.0, "flat": 1.0, "cooldown": 0.0}, [1.0] * 5),
        ({"warmup_share": 1.0, "flat": 0.0, "cooldown": 0.0}, [0.1, 0.325, 0.55, 0.775, 1.0]),
        ({"warmup_share": 0.0, "flat": 0.0, "cooldown": 0.0}, [1.0, 0.775, 0.55, 0.325, 0.1]),
        ({"warmup_share": 0.5, "flat": 0.0, "cooldown": 0.5}, [0.1, 0.55, 1.0, 0.5, 0.0]),
    ],
)
def test_phases_of_one_cycle_may_be_empty(shares: dict[str, Any], rates: list[float]) -> None:
    config = TrainingConfig(schedule=OneCycleSchedule(**shares), epochs=4)
    assert [rate(config, epoch) for epoch in range(5)] == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("flat", [0.0, 0.1, 0.2, 0.25])
def test_one_cycle_without_linear_decay_does_not_jump(warmup: float, flat: float) -> None:
    """The steepest phase is a cosine over 50 steps, which falls by at most 3.2% in a step."""
    schedule = OneCycleSchedule(warmup_share=warmup, flat=flat, cooldown=1 - warmup - flat)
    config = TrainingConfig(schedule=schedule, epochs=100)
    rates = [rate(config, step // 10, step % 10) for step in range(1000)]
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.033
    assert max(rates) == 1
    assert rates[-1] < 0.001


@pytest.mark.parametrize(
    ("optimizer", "high"),
    [
        ({"type": "adam", "beta1": 0.8}, 0.8),
        ({"type": "momentum", "momentum": 0.9}, 0.9),
        ({"type": "muon", "momentum": 0.95, "beta1": 0.5}, 0.95),
    ],
)
def test_momentum_of_one_cycle_falls_as_the_rate_rises(
    optimizer: dict[str, Any], high: float
) -> None:
    shares = {"warmup_share": 0.2, "flat": 0.2, "cooldown": 0.2}
    settings: dict[str, Any] = {"optimizer": optimizer, "epochs": 10}
    settings["schedule"] = {"type": "one_cycle", "low_momentum": 0.3, **shares}
    config = TrainingConfig(**settings)

    def momentum(epoch: int) -> float | None:
        return scheduled_momentum(config, epoch=epoch, batch=0, batches=10)

    middle = (high + 0.3) / 2
    expected = [high, middle, 0.3, 0.3, 0.3, None, middle, None, high, high]
    for epoch, value in enumerate(expected):
        if value is not None:
            assert momentum(epoch) == pytest.approx(value, rel=1e-12), epoch
    without = TrainingConfig(**{**settings, "schedule": "one_cycle"})
    assert scheduled_momentum(without, epoch=3, batch=0, batches=10) is None


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["schedule.low_momentum=0.5"], "the optimizer sgd has no momentum, got 0.5"),
        (
            ["schedule.low_momentum=0.95", "optimizer=adam"],
            "must be at most the momentum of the optimizer, 0.9, got 0.95",
        ),
        (["schedule.flat=0.9"], "the sum of warmup_share, flat and cooldown must be at most 1"),
        (
            ["schedule={type: linear, final_learning_rate: 2.0}"],
            "final_learning_rate: must be at most learning_rate, got 2",
        ),
        (["schedule={type: linear, flat: 1.0}"], "flat: must be less than 1, got 1"),
    ],
)
def test_schedules_that_cannot_work_are_explained(overrides: list[str], problem: str) -> None:
    chosen = [] if "schedule={" in overrides[0] else ["training.schedule=one_cycle"]
    with pytest.raises(ConfigError) as caught:
        load_config("small", [*chosen, *(f"training.{override}" for override in overrides)])
    assert problem in caught.value.what


@pytest.mark.parametrize(
    "schedule",
    [
        TutorialSchedule(full_rate_epochs=1),
        PlateauSchedule(),
        CosineSchedule(),
        LinearSchedule(),
        OneCycleSchedule(),
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
