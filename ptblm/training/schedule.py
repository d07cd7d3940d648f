"""The learning rate: a pure function of where a run is, with nothing to save or to get wrong.

Every rate is computed anew, and none from the one before it.
"""

import math
from collections.abc import Sequence

from ptblm.config.training import OptimizationConfig


def learning_rate(
    config: OptimizationConfig, *, epoch: int, batch: int, batches: int, valid: Sequence[float]
) -> float:
    """The rate of one step: its schedule's, times that of the warm-up.

    Args:
        config: which schedule, and its figures.
        epoch: of the step, from 0.
        batch: of the step in its epoch, from 0.
        batches: in an epoch.
        valid: the valid perplexity after each epoch before this one.
    """
    step = epoch * batches + batch
    match config.schedule:
        case "tutorial":
            rate = tutorial_rate(epoch, config)
        case "plateau":
            rate = plateau_rate(valid, config)
        case "cosine":
            rate = cosine_rate(step / (config.epochs * batches), config)
        case "constant":
            rate = config.learning_rate
    return rate * warm_up(step, config.warmup_steps)


def tutorial_rate(epoch: int, config: OptimizationConfig) -> float:
    """Full at first, then decayed once per epoch.

    learning_rate * learning_rate_decay ** max(epoch + 1 - full_rate_epochs, 0)
    (ptb_word_lm.py; Zaremba et al. 2014, section 4.1)
    """
    decays = max(epoch + 1 - config.full_rate_epochs, 0)
    return config.learning_rate * config.learning_rate_decay**decays


def plateau_rate(valid: Sequence[float], config: OptimizationConfig) -> float:
    """Decayed whenever more than `patience` epochs in a row were no better than the best.

    learning_rate * learning_rate_decay ** decays, where a decay starts the count of epochs anew
    (Mikolov et al. 2010, section 2, halve the rate by the validation text; the count is that of
    torch.optim's ReduceLROnPlateau).
    """
    best, waited, decays = math.inf, 0, 0
    for perplexity in valid:
        waited = 0 if perplexity < best else waited + 1
        best = min(best, perplexity)
        if waited > config.patience:
            waited, decays = 0, decays + 1
    return config.learning_rate * config.learning_rate_decay**decays


def cosine_rate(done: float, config: OptimizationConfig) -> float:
    """Half a cosine over the whole run, whose share `done` lies behind.

    final + (learning_rate - final) * (1 + cos(pi * done)) / 2, with final = final_learning_rate
    (Loshchilov & Hutter 2017, equation 5, without restarts)
    """
    final = config.final_learning_rate
    return final + (config.learning_rate - final) * (1 + math.cos(math.pi * done)) / 2


def warm_up(step: int, warmup_steps: int) -> float:
    """The factor on the rate of `step` (from 0): (step + 1) / warmup_steps, until that is 1."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
