"""One step of training: forward, backward, clip, update.

Shapes: B batch, T time.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ptblm.model.language_model import LanguageModel
from ptblm.model.recurrent import State, detach_state
from ptblm.training.clipping import clip_gradients, global_norm
from ptblm.training.precision import SMALLEST_LOSS_SCALE, Arithmetic


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
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    arithmetic: Arithmetic,
    inputs: Tensor,
    targets: Tensor,
    state: State,
    *,
    learning_rate: float,
    max_grad_norm: float,
    generator: torch.Generator,
) -> StepResult:
    """Makes one update.

    The cost is the summed loss divided by B, not by B * T (ptb_word_lm.py): published rates
    and norms are meant for it.

    Args:
        model: the model, updated in place.
        optimizer: over the model's trainable parameters.
        arithmetic: the run's precision.
        inputs: ids, [B, T].
        targets: the ids that follow them, [B, T].
        state: carried from the step before.
        learning_rate: of this update.
        max_grad_norm: the gradient is clipped to this norm.
        generator: draws the dropout masks.

    Raises:
        NotFiniteError: if loss or gradient is not finite; the weights are as before.
    """
    with arithmetic.products():
        nll, state = model.nll(inputs, targets.long(), state, generator)
    summed_nll = nll.sum()
    cost = summed_nll / inputs.shape[0]

    optimizer.zero_grad(set_to_none=True)
    scaler = arithmetic.scaler
    if scaler is None:
        torch.autograd.backward(cost)
    else:
        torch.autograd.backward(scaler.scale(cost))
        scaler.unscale_(optimizer)
    parameters = model.trainable_parameters()
    norm = global_norm(parameters)
    nll_value, norm_value = torch.stack([summed_nll.detach(), norm]).tolist()
    overflow_is_normal = scaler is not None and scaler.get_scale() > SMALLEST_LOSS_SCALE
    if not math.isfinite(nll_value) or not (math.isfinite(norm_value) or overflow_is_normal):
        raise NotFiniteError(nll_value, norm_value)

    clip_gradients(parameters, norm, max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)  # makes no update if a gradient overflowed
        scaler.update()
    grad_norm = norm_value if math.isfinite(norm_value) else None
    return StepResult(nll_value, grad_norm, detach_state(state))
