"""The two ways to the gradients of one step: as it reads, and as it is fast.

The cost is the summed loss divided by B, not by B * T (ptb_word_lm.py): published rates and norms
are meant for it.

Shapes: B batch, T time.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ptblm.backend.precision import Precision
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import State

Backward = Callable[
    [LanguageModel, Precision, Tensor, Tensor, State, torch.Generator], tuple[Tensor, State]
]


def plain_backward(
    model: LanguageModel,
    precision: Precision,
    inputs: Tensor,
    targets: Tensor,
    state: State,
    generator: torch.Generator,
) -> tuple[Tensor, State]:
    """Puts the gradients of the cost, times the loss scale, into the parameters' `.grad`.

    Args:
        model: whose parameters have no `.grad` before.
        precision: the run's precision.
        inputs: ids, [B, T].
        targets: the ids that follow them, [B, T].
        state: carried from the step before.
        generator: draws the dropout masks.

    Returns:
        The loss summed over all targets, in nats, and the state after the last word.
    """
    with precision.products():
        nll, state = model.nll(inputs, targets, state, generator)
    summed_nll = nll.sum()
    torch.autograd.backward(summed_nll * (precision.loss_scale / len(inputs)))
    return summed_nll.detach(), state


def fast_backward(
    model: LanguageModel,
    precision: Precision,
    inputs: Tensor,
    targets: Tensor,
    state: State,
    generator: torch.Generator,
) -> tuple[Tensor, State]:
    """Does what `plain_backward` does; loss and softmax give their gradients without autograd."""
    with precision.products():
        hidden, state = model.hidden(inputs, state, generator)
    nll, hidden_gradient = model.softmax.nll_and_gradients(
        hidden.detach().flatten(0, 1),
        targets.t().flatten(),
        weight=precision.loss_scale / len(inputs),
        dtype=precision.operands or model.softmax.weight.dtype,
    )
    if hidden.requires_grad:  # a user's own cell may cut the gradient off
        torch.autograd.backward(hidden, hidden_gradient.view_as(hidden).to(hidden.dtype))
    rows = model.embedding.weight.grad
    # Sparse if the trainer has asked for it, where the optimizer takes it; a word that came twice
    # has two rows then.
    if rows is not None and rows.is_sparse:
        model.embedding.weight.grad = rows.coalesce()
    return nll.sum(), state


def gradient_bytes(parameters: Iterable[nn.Parameter]) -> int:
    """What the last step's gradients take, of a sparse one the rows that are there."""
    gradients = (parameter.grad for parameter in parameters)
    return sum((g._values() if g.is_sparse else g).nbytes for g in gradients if g is not None)
