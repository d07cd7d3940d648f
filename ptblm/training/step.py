"""One training step: forward, backward, clip, update.

The loss is the summed cross-entropy divided by B, not by B * T (ptb_word_lm.py); published
learning rates and gradient norms are for this loss.

Shapes: B batch, T time.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ptblm.backend.distributed import ONE_PROCESS, World
from ptblm.backend.precision import Precision
from ptblm.backend.randomness import seed_generators
from ptblm.model.embedding import Embedding
from ptblm.model.layers.recurrent import HiddenState, detach
from ptblm.training.clipping import clip_coefficient, global_norm
from ptblm.training.optimizer import Optimizer


class Batch(NamedTuple):
    """The text of one step, as far as it belongs to this process.

    Attributes:
        inputs: token ids, [B, T].
        targets: the ids that follow the inputs, int64, [B, T].
        global_size: rows of the batches of all processes; None for the B of this one.
    """

    inputs: Tensor
    targets: Tensor
    global_size: int | None = None


class StepParts(NamedTuple):
    """What a step consists of: everything that stays the same during a run.

    Attributes:
        model: a `LanguageModel`, or a module that wraps one. Its weights are updated in place.
        optimizer: optimizer of the model's trainable parameters.
        precision: the precision of the run; its loss scaler is updated.
        max_grad_norm: maximum global norm of the gradient.
        generator: draws the dropout masks.
        world: the processes of the run.
    """

    model: nn.Module
    optimizer: Optimizer
    precision: Precision
    max_grad_norm: float
    generator: torch.Generator
    world: World = ONE_PROCESS


class StepOutput(NamedTuple):
    """Results of a step, still on the device.

    Attributes:
        metrics: [2], the loss before the update, summed over all targets of all processes, in
            nats; and the global gradient norm before clipping.
        hidden_state: the hidden state after the last token, detached.
    """

    metrics: Tensor
    hidden_state: HiddenState


def forward_backward(
    model: nn.Module,
    batch: Batch,
    hidden_state: HiddenState,
    generator: torch.Generator,
    precision: Precision,
    world: World = ONE_PROCESS,
) -> StepOutput:
    """Computes the gradients of a step without waiting for the device, so it can be captured.

    Each process computes the gradients of its own rows. Their sum is that of the global batch.

    Args:
        model: a `LanguageModel`, or a module that wraps one.
        batch: the text.
        hidden_state: the hidden state after the previous step.
        generator: draws the dropout masks.
        precision: the precision of the run; its loss scale multiplies the gradients.
        world: the processes of the run.
    """
    model.zero_grad(set_to_none=True)
    with precision.autocast():
        loss, nll, hidden_state = model(
            batch.inputs,
            batch.targets,
            hidden_state,
            generator,
            scale=precision.loss_scale / (batch.global_size or len(batch.inputs)),
        )
    loss.backward()
    nll = nll.sum()
    if world.size > 1:
        world.sum_gradients(_partial_parameters(model), nll)
    grad_norm = global_norm(model.parameters()) / precision.loss_scale
    metrics = torch.stack([nll.to(grad_norm.dtype), grad_norm])
    return StepOutput(metrics, detach(hidden_state))


def _partial_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters whose gradient is that of the rows of this process."""
    embeddings = [module for module in model.modules() if isinstance(module, Embedding)]
    complete = {id(embedding.weight) for embedding in embeddings if embedding.gather}
    return [parameter for parameter in model.parameters() if id(parameter) not in complete]


def reset_streams(
    hidden_state: HiddenState,
    initial: HiddenState,
    rate: float,
    seed: int,
    *,
    batch_size: int | None = None,
    rows: slice = slice(None),
) -> HiddenState:
    """Resets the hidden state of each stream with a given probability, without waiting.

    Random resets keep the hidden state of a long text in the range that a text begins with. Source:
    the program of Melis et al. 2020 (deepmind/lamb), which resets with a probability of 0.01. A
    learned initial state receives no gradient from a reset.

    Args:
        hidden_state: the hidden state before a batch; each part is [B, ...].
        initial: the hidden state before the first token of a text, in the same shape.
        rate: the probability.
        seed: seed of the draws.
        batch_size: streams of all processes; None for B.
        rows: the streams of this process.
    """
    generator = torch.Generator().manual_seed(seed)
    like = hidden_state[0][0]
    is_reset = torch.rand(batch_size or len(like), generator=generator)[rows] < rate  # [B]
    if not is_reset.any():  # on the host
        return hidden_state
    is_reset = is_reset.to(like.device, non_blocking=True)

    def reset(part: Tensor, start: Tensor) -> Tensor:
        rows = is_reset.reshape(-1, *[1] * (part.dim() - 1))  # [B, 1] for a part [B, size]
        return torch.where(rows, start.detach(), part)

    return tuple(
        tuple(reset(part, start) for part, start in zip(*layers, strict=True))
        for layers in zip(hidden_state, initial, strict=True)
    )


def train_step(
    parts: StepParts, batch: Batch, hidden_state: HiddenState, *, learning_rate: float, seed: int
) -> StepOutput:
    """Performs one update, unless the loss or the gradient is not finite.

    Args:
        parts: what the step consists of.
        batch: the text.
        hidden_state: the hidden state after the previous step.
        learning_rate: learning rate of this update.
        seed: seed for all random numbers of the step.
    """
    generator, precision = parts.generator, parts.precision
    seed_generators(generator, seed)
    output = forward_backward(parts.model, batch, hidden_state, generator, precision, parts.world)
    nll, grad_norm = output.metrics.tolist()  # waits for the device
    is_finite = math.isfinite(nll) and math.isfinite(grad_norm)
    if is_finite:
        clip = clip_coefficient(grad_norm, parts.max_grad_norm)
        parts.optimizer.step(learning_rate, clip / precision.loss_scale)
    if precision.scaler is not None:
        precision.scaler.update(overflowed=not is_finite)
    return output
