"""Learning-rate schedules: stateless functions of the training progress."""

import math
from collections.abc import Sequence

from ptblm.config.optimizers import momentum_of
from ptblm.config.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    TutorialSchedule,
)
from ptblm.config.training import TrainingConfig

# Share of the full learning rate at the start of one cycle, and before its final decay to zero.
_LOW_FACTOR = 0.1


def learning_rate(
    config: TrainingConfig,
    *,
    epoch: int,
    batch: int,
    batches: int,
    step: int,
    valid: Sequence[float],
) -> float:
    """Returns the learning rate of a step: the scheduled rate times the warm-up factor.

    Args:
        config: the training section.
        epoch: epoch of the step, from 0.
        batch: batch of the step within its epoch, from 0.
        batches: batches in the epoch, which can differ between epochs.
        step: updates before the step, which warm-up counts.
        valid: valid perplexity after each earlier epoch.
    """
    progress = (epoch * batches + batch) / (config.epochs * batches)
    match config.schedule:
        case TutorialSchedule():
            rate = config.learning_rate * tutorial_factor(epoch, config.schedule)
        case PlateauSchedule():
            rate = config.learning_rate * plateau_factor(valid, config.schedule)
        case CosineSchedule(final_learning_rate=final):
            rate = cosine_rate(progress, config.learning_rate, final)
        case LinearSchedule():
            rate = linear_rate(progress, config.learning_rate, config.schedule)
        case OneCycleSchedule():
            rate = config.learning_rate * one_cycle_factor(progress, config.schedule)
        case ConstantSchedule():
            rate = config.learning_rate
    return rate * warmup_factor(step, config.warmup_steps)


def scheduled_momentum(
    config: TrainingConfig, *, epoch: int, batch: int, batches: int
) -> float | None:
    """Returns the momentum of a step; None if the schedule does not change it.

    See `learning_rate` for the arguments. While the learning rate rises to its full value, the
    momentum falls from that of the optimizer to `low_momentum`, and it rises again while the rate
    falls to a tenth (Smith 2018, section 4.3).
    """
    schedule, momentum = config.schedule, momentum_of(config.optimizer)
    if not isinstance(schedule, OneCycleSchedule) or schedule.low_momentum is None:
        return None
    if momentum is None:
        raise ValueError("the config rejects such an optimizer")
    factor = one_cycle_factor((epoch * batches + batch) / (config.epochs * batches), schedule)
    height = max((factor - _LOW_FACTOR) / (1 - _LOW_FACTOR), 0.0)
    return momentum + (schedule.low_momentum - momentum) * height


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


def linear_rate(progress: float, initial: float, schedule: LinearSchedule) -> float:
    """Returns the initial rate up to the flat share, then a line to the final learning rate.

    Args:
        progress: completed fraction of training, in [0, 1].
        initial: learning rate at the start.
        schedule: the flat share and the final learning rate.
    """
    final, remaining = schedule.final_learning_rate, (1 - progress) / (1 - schedule.flat)
    return final + (initial - final) * min(remaining, 1.0)


def one_cycle_factor(progress: float, schedule: OneCycleSchedule) -> float:
    """Returns the share of the full learning rate in one cycle.

    The factor rises from 1/10 to 1, stays, falls to 1/10 (all linearly), and then falls to 0 along
    half a cosine. If the shares leave no steps for the linear decay, the cosine begins at 1.
    Sources: Smith 2018, section 3, "1cycle"; the shape with a flat part, and the cosine, are those
    of fast.ai's language models (sgugger/Adam-experiments, train_rnn.py).

    Args:
        progress: completed fraction of training, in [0, 1].
        schedule: the shares of the phases.
    """
    if progress < schedule.warmup_share:
        return _LOW_FACTOR + (1 - _LOW_FACTOR) * progress / schedule.warmup_share
    flat_end, cooldown_start = schedule.warmup_share + schedule.flat, 1 - schedule.cooldown
    if progress <= flat_end:
        return 1.0
    if progress < cooldown_start or not schedule.cooldown:
        share = (progress - flat_end) / (cooldown_start - flat_end)
        return 1 - (1 - _LOW_FACTOR) * share
    has_decay = cooldown_start - flat_end > 1e-9  # a sum of shares is rounded
    high = _LOW_FACTOR if has_decay else 1.0
    return cosine_rate((progress - cooldown_start) / schedule.cooldown, high, 0.0)


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Returns min(1, (step + 1) / warmup_steps) for a step counted from 0; 1 without warm-up."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
