"""Dynamic evaluation: weights that adapt to the text (Krause et al. 2018, arXiv:1709.07432).

After each segment of tokens was scored, the weights w move along the gradient g of the mean loss of
the segment, and back to the trained weights w_0:

    w += min(1, decay RMS / mean RMS) (w_0 - w) - learning_rate g / (RMS + epsilon)

RMS is the root of the mean of squares of the gradient over batches of the training text, for each
weight; its mean is that of the means of the tensors that have a gradient, which a learned initial
state does not have. Dropout is disabled, and nothing is clipped. The units are those of the program
of Krause et al., except for `--oldhyper`, which sums the squares.

Shapes: T tokens of a segment.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ptblm.config.evaluation import DynamicSettings
from ptblm.corpus.batches import batchify
from ptblm.corpus.vocabulary import Ids
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import HiddenState, detach

# Streams of the training text; the RMS depends on it. That of the authors' code.
_STREAMS = 100
# Tokens whose gradient is computed at once, so that memory does not grow with the segments.
_MAX_TOKENS = 10_000


def gradient_rms(
    model: LanguageModel,
    ids: Ids,
    segment_length: int,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Tensor]:
    """Returns the root mean square of the gradient of each trainable parameter over a text.

    That of a parameter without a gradient is 0.

    Args:
        model: the model, in evaluation mode; it is not modified.
        ids: the ids of the training text.
        segment_length: tokens of each of the 100 streams of a batch.
        progress: receives the share of the text that was read.

    Raises:
        DataError: if the text has fewer than two tokens.
    """
    length = max(1, min(segment_length, len(ids) - 1))
    streams = max(1, min(_STREAMS, len(ids) // (length + 1)))
    batches = batchify(ids, streams, length, "train")
    parameters = list(model.trainable_parameters().values())
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    rows = max(1, _MAX_TOKENS // length)
    sizes = [min(rows, streams - first) for first in range(0, streams, rows)]
    hidden_states = [detach(model.initial_state(size)) for size in sizes]
    for step in range(len(batches)):
        inputs, targets = (
            torch.from_numpy(part).long().to(parameters[0].device) for part in batches[step]
        )
        sums: list[Tensor | None] = [None] * len(parameters)
        groups = zip(inputs.split(rows), targets.split(rows), strict=True)
        for index, (some, next_ids) in enumerate(groups):
            gradients, hidden_states[index] = _gradients(
                model, parameters, some, next_ids, hidden_states[index], 1 / targets.numel()
            )
            pairs = zip(sums, gradients, strict=True)
            sums = [g if total is None or g is None else total + g for total, g in pairs]
        with torch.no_grad():
            for square, gradient in zip(squares, sums, strict=True):
                if gradient is not None:
                    square.addcmul_(gradient, gradient)
        progress((step + 1) / len(batches))
    return [square.detach().div_(len(batches)).sqrt_() for square in squares]


def _gradients(
    model: LanguageModel,
    parameters: list[torch.nn.Parameter],
    inputs: Tensor,
    targets: Tensor,
    hidden_state: HiddenState,
    scale: float,
) -> tuple[Sequence[Tensor | None], HiddenState]:
    """Returns the gradient of `scale` times the loss of a batch, [B, T], and the hidden state."""
    # cuDNN computes gradients only in training mode, which the fused kernels select by this.
    with torch.enable_grad():
        features, hidden_state = model.features(inputs, hidden_state)
        loss, _ = model.head.loss(features.flatten(0, 1), targets.t().flatten(), scale)
    # A learned initial state is used only at the start of a text.
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [None if g is None else g.to_dense() for g in gradients], detach(hidden_state)


class AdaptiveModel:
    """A copy of a model whose weights adapt to a text.

    Args:
        model: the model, in evaluation mode; it is not modified.
        settings: the settings of dynamic evaluation.
        rms: root mean square of the gradient of each trainable parameter, which rule "rms" needs.
            Rule "sgd" takes 1 for all weights.

    Attributes:
        model: the copy.
    """

    def __init__(
        self, model: LanguageModel, settings: DynamicSettings, rms: Sequence[Tensor] | None
    ) -> None:
        self.model = copy.deepcopy(model)
        self._parameters = list(self.model.trainable_parameters().values())
        self._trained = [parameter.detach() for parameter in model.trainable_parameters().values()]
        if settings.rule == "sgd" or rms is None:
            rms = [parameter.new_ones(()) for parameter in self._trained]
        means = torch.stack([each.mean() for each in rms])
        mean = (means.sum() / (means > 0).sum().clamp(min=1)).clamp(min=1e-30)
        self._decay = [(settings.decay * (each / mean)).clamp(max=1) for each in rms]
        self._rates = [settings.learning_rate / (each + settings.epsilon) for each in rms]
        self._hidden_state = detach(self.model.initial_state(1))

    @torch.no_grad()
    def restart(self) -> None:
        """Restores the trained weights at the start of a text."""
        for parameter, trained in zip(self._parameters, self._trained, strict=True):
            parameter.copy_(trained)
        self._hidden_state = detach(self.model.initial_state(1))

    def adapt(self, inputs: Tensor, targets: Tensor) -> None:
        """Updates the weights after a segment was scored.

        Args:
            inputs: ids, [T].
            targets: the ids that follow them, [T].
        """
        gradients, self._hidden_state = _gradients(
            self.model,
            self._parameters,
            inputs[None],
            targets[None],
            self._hidden_state,
            1 / targets.numel(),
        )
        rows = zip(
            self._parameters, self._trained, gradients, self._decay, self._rates, strict=True
        )
        with torch.no_grad():
            for parameter, trained, gradient, decay, rate in rows:
                parameter.lerp_(trained, decay)
                if gradient is not None:
                    parameter.addcmul_(gradient, rate, value=-1)
