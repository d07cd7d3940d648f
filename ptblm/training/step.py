"""One step of training: forward, backward, clip, update.

Shapes: B batch, T time.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ptblm.backend.precision import Precision
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import State, detach_state
from ptblm.training.clipping import clip_coefficient, global_norm
from ptblm.training.gradients import Backward
from ptblm.training.optimizer import Optimizer


@dataclass(frozen=True)
class StepResult:
    """What a step gives back.

    Attributes:
        nll: summed over its tokens, in nats, before the update.
        grad_norm: global norm before clipping; None where fp16 overflowed and no update was made.
        state: after its last word, detached.
    """

    nll: float
    grad_norm: float | None
    state: State


class NotFiniteError(ArithmeticError):
    """The summed loss (in nats) or the gradient's norm of a step is NaN or infinite."""

    def __init__(self, nll: float, grad_norm: float) -> None:
        super().__init__(nll, grad_norm)
        self.nll = nll
        self.grad_norm = grad_norm


def train_step(
    backward: Backward,
    model: LanguageModel,
    optimizer: Optimizer,
    precision: Precision,
    inputs: Tensor,
    targets: Tensor,
    state: State,
    *,
    learning_rate: float,
    max_grad_norm: float,
    generator: torch.Generator,
) -> StepResult:
    """Makes one update.

    Args:
        backward: gives the gradients.
        model: the model, updated in place.
        optimizer: of the model's trainable parameters.
        precision: the run's precision.
        inputs: ids, [B, T].
        targets: the ids that follow them, [B, T].
        state: carried from the step before.
        learning_rate: of this update.
        max_grad_norm: the gradient is clipped to this norm.
        generator: draws the dropout masks.

    Raises:
        NotFiniteError: if loss or gradient is not finite; the weights are as before.
    """
    parameters = optimizer.parameters
    for parameter in parameters:
        parameter.grad = None
    summed_nll, state = backward(model, precision, inputs, targets.long(), state, generator)
    norm = global_norm(parameters) / precision.loss_scale
    nll_value, norm_value = torch.stack([summed_nll, norm]).tolist()
    scaler = precision.scaler
    overflowed = scaler is not None and scaler.can_back_off() and not math.isfinite(norm_value)
    if not math.isfinite(nll_value) or not (math.isfinite(norm_value) or overflowed):
        raise NotFiniteError(nll_value, norm_value)

    if not overflowed:
        clip = clip_coefficient(norm_value, max_grad_norm)
        optimizer.step(learning_rate, clip / precision.loss_scale)
    if scaler is not None:
        scaler.update(overflowed=overflowed)
    return StepResult(nll_value, None if overflowed else norm_value, detach_state(state))
