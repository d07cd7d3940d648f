"""Detects a run that has diverged: a loss, a gradient or a weight that is not finite."""

import math
from typing import TYPE_CHECKING

from ptblm.errors import DivergedError

if TYPE_CHECKING:
    from ptblm.training.trainer import Trainer


def check_finite(trainer: "Trainer") -> None:
    """Checks that all weights and optimizer state are finite and can be saved.

    Raises:
        DivergedError: if a value is not finite.
    """
    optimizer = trainer.optimizer
    tensors = [*optimizer.parameters.values(), *optimizer.state_dict().values()]
    tensors += trainer.averages.tensors()
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        metrics = divergence_metrics(trainer, math.nan, math.nan)
        raise DivergedError(metrics, "weights or optimizer state not finite")


def divergence_metrics(trainer: "Trainer", nll: float, grad_norm: float) -> dict[str, float]:
    """Returns the metrics of the next step, which diverged; `nll` is in nats per token."""
    state = trainer.train_state
    return {
        "epoch": state.epoch + 1,
        "batch": min(state.batch + 1, len(trainer.epoch_text)),
        "step": state.step + 1,
        "nll": nll,
        "grad_norm": grad_norm,
        "learning_rate": trainer.next_learning_rate(),
    }
