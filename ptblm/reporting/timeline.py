"""Where the records of a run are on the x-axis of a plot: steps, epochs, tokens or hours."""

import math
from bisect import bisect_left
from typing import Literal, NamedTuple

from ptblm.reporting.history import RunHistory, StepMetrics

Axis = Literal["steps", "epochs", "tokens", "hours"]


class Position(NamedTuple):
    """A point of a run.

    Attributes:
        steps: steps since the start of the run.
        epochs: passes over the training text; NaN as long as the length of an epoch is unknown.
        tokens: training tokens, in millions.
        hours: training time without validation.
    """

    steps: float
    epochs: float
    tokens: float
    hours: float


class _Epoch(NamedTuple):
    """The start of an epoch, and what each of its steps adds."""

    start: Position
    epochs_per_step: float
    tokens_per_step: float


def timeline(run: RunHistory) -> tuple[list[Position], list[Position]]:
    """Returns the positions of the recorded steps and of the ends of the epochs.

    metrics.jsonl contains steps and speeds. Steps of the same epoch are assumed to have the same
    number of tokens, which is exact unless `training.random_num_steps` is true. An epoch in
    progress is assumed to be as long as the one before.
    """
    start = Position(0.0, 0.0, 0.0, 0.0)
    ends: list[Position] = []
    epochs: list[_Epoch] = []
    training = run.config.training
    tokens_per_step = training.batch_size * training.num_steps / 1e6
    epochs_per_step = math.nan
    for done in run.epochs:
        tokens = done.tokens_per_second * done.seconds / 1e6
        end = Position(
            done.step, done.epoch, start.tokens + tokens, start.hours + done.seconds / 3600
        )
        steps = end.steps - start.steps
        if steps > 0:
            epochs_per_step, tokens_per_step = 1 / steps, tokens / steps
        epochs.append(_Epoch(start, epochs_per_step, tokens_per_step))
        ends.append(end)
        start = end
    epochs.append(_Epoch(start, epochs_per_step, tokens_per_step))
    last_steps = [end.steps for end in ends]
    return [_position(step, epochs[bisect_left(last_steps, step.step)]) for step in run.steps], ends


def _position(step: StepMetrics, epoch: _Epoch) -> Position:
    """Returns the position of a step. Its speed, which is that of the epoch so far, is its time."""
    steps = step.step - epoch.start.steps
    tokens = steps * epoch.tokens_per_step
    speed = step.tokens_per_second
    hours = tokens * 1e6 / speed / 3600 if speed > 0 else math.nan
    return Position(
        step.step,
        epoch.start.epochs + steps * epoch.epochs_per_step,
        epoch.start.tokens + tokens,
        epoch.start.hours + hours,
    )
