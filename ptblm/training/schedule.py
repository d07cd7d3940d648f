"""Learning-rate schedules: stateless functions of the training progress."""

import math
from collections.abc import Sequence

from ptblm.config.schedules import (
    ConstantSchedule,
    CosineSchedule,
    PlateauSchedule,
    TutorialSchedule,
)
from ptblm.config.training import TrainingConfig


def learning_rate(
    config: TrainingConfig, *, epoch: int, batch: int, batches: int, valid: Sequence[float]
) -> float:
    """Returns the learning rate of a step: the scheduled rate times the warm-up factor.

    Args:
        config: the training section.
        epoch: epoch of the step, from 0.
        batch: batch of the step within its epoch, from 0.
        batches: batches in an epoch.
        valid: valid perplexity after each earlier epoch.
    """
    step = epoch * batches + batch
    match config.schedule:
        case TutorialSchedule():
            rate = config.learning_rate * tutorial_factor(epoch, config.schedule)
        case PlateauSchedule():
            rate = config.learning_rate * plateau_factor(valid, config.schedule)
        case CosineSchedule(final_learning_rate=final):
            rate = cosine_rate(step / (config.epochs * batches), config.learning_rate, final)
        case ConstantSchedule():
            rate = config.learning_rate
    return rate * warmup_factor(step, config.warmup_steps)


def tutorial_factor(epoch: int, schedule: TutorialSchedule) -> float:
    """Returns decay ** max(epoch + 1 - full_rate_epochs, 0).

    Source: ptb_word_lm.py; Zaremba et al. 2014, section 4.1.
    """
    return schedule.decay ** max(epoch + 1 - schedule.full_rate_epochs, 0)


def plateau_factor(valid: Sequence[float], schedule: PlateauSchedule) -> float:
    """Returns decay ** decays: one decay after more than `patience` epochs without improvement.

    Each decay resets the epoch count. Source: Mikolov et al. 2010, section 2, who halve the rate
    based on valid perplexity. Epochs are counted as in torch.optim.lr_scheduler.ReduceLROnPlateau.
    """
    best, waited, decays = math.inf, 0, 0
    for perplexity in valid:
        waited = 0 if perplexity < best else waited + 1
        best = min(best, perplexity)
        if waited > schedule.patience:
            waited, decays = 0, decays + 1
    return schedule.decay**decays


def has_stopped_improving(valid: Sequence[float], patience: int | None) -> bool:
    """Returns whether at least `patience` epochs followed the best one.

    Args:
        valid: valid perplexity after each epoch.
        patience: number of epochs; None returns False.
    """
    if patience is None or not valid:
        return False
    return len(valid) - 1 - valid.index(min(valid)) >= patience


def cosine_rate(progress: float, initial: float, final: float) -> float:
    """Returns final + (initial - final) * (1 + cos(pi * progress)) / 2.

    Source: Loshchilov & Hutter 2017, equation 5, without restarts.

    Args:
        progress: completed fraction of training, in [0, 1].
        initial: learning rate at the start.
        final: learning rate at the end.
    """
    return final + (initial - final) * (1 + math.cos(math.pi * progress)) / 2


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Returns min(1, (step + 1) / warmup_steps) for a step counted from 0; 1 without warm-up."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
