"""Softmax over the vocabulary with its cross-entropy loss.

Shapes: N positions, H features, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptblm.model.kernels.linear_cross_entropy import linear_cross_entropy


class Softmax(nn.Module):
    """Linear layer and softmax, which compute the probability of each token from features.

    Args:
        num_features: H.
        vocab_size: V.
        fused: whether `loss` uses the fused kernel, which computes loss and gradients in one pass.

    Attributes:
        weight: [V, H].
        bias: [V].
    """

    def __init__(self, num_features: int, vocab_size: int, *, fused: bool = True) -> None:
        super().__init__()
        self.fused = fused
        self.weight = nn.Parameter(torch.empty(vocab_size, num_features))
        self.bias = nn.Parameter(torch.empty(vocab_size))

    def initialize(
        self, scale: float, generator: torch.Generator, *, only_bias: bool = False
    ) -> None:
        """Initializes weight and bias uniformly in [-scale, scale].

        Args:
            scale: bound of the distribution.
            generator: random number generator.
            only_bias: whether the weight is that of the embedding, which is already initialized.
        """
        if not only_bias:
            nn.init.uniform_(self.weight, -scale, scale, generator)
        nn.init.uniform_(self.bias, -scale, scale, generator)

    @torch.no_grad()
    def set_bias(self, bias: Tensor) -> None:
        """Sets the bias, [V]."""
        self.bias.copy_(bias)

    def loss(self, features: Tensor, targets: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Computes the loss of a training step.

        Args:
            features: [N, H].
            targets: ids, [N].
            scale: factor on the summed loss.

        Returns:
            The loss, a scalar: `scale` times the sum of -log p(target); and -log p(target) in nats,
            [N], detached.
        """
        if self.fused and torch.is_grad_enabled():
            return linear_cross_entropy(features, self.weight, self.bias, targets, scale)
        nll = self.nll(features, targets)
        return nll.sum() * scale, nll.detach()

    def nll(self, features: Tensor, targets: Tensor) -> Tensor:
        """Returns -log p(target) in nats, [N], for features [N, H] and target ids [N]."""
        return functional.cross_entropy(self._logits(features), targets, reduction="none")

    def log_probs(self, features: Tensor) -> Tensor:
        """Returns the log-probability of every token, [N, V], for features [N, H]."""
        return functional.log_softmax(self._logits(features), dim=-1)

    def _logits(self, features: Tensor) -> Tensor:
        """Returns logits in at least fp32, which the sum over V terms requires."""
        logits = functional.linear(features, self.weight, self.bias)  # [N, V]
        return logits if logits.dtype == torch.float64 else logits.float()
