"""Softmax over the vocabulary with its cross-entropy loss.

Shapes: N positions, H features, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ptblm.model.heads.head import Head, at_least_fp32
from ptblm.model.kernels.linear_cross_entropy import linear_cross_entropy


class Softmax(Head):
    """Linear layer and softmax, which compute the probability of each token from features.

    Args:
        num_features: H.
        vocab_size: V.
        fused: whether `loss` uses the fused kernel, which computes loss and gradients in one pass.
    """

    def __init__(self, num_features: int, vocab_size: int, *, fused: bool = True) -> None:
        super().__init__(num_features, vocab_size, num_features)
        self.fused = fused

    def loss(
        self,
        features: Tensor,
        targets: Tensor,
        scale: float = 1.0,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Computes the loss of a training step; see `Head.loss`. There is no dropout."""
        features, targets = features.flatten(0, -2), targets.flatten()
        if self.fused and torch.is_grad_enabled():
            return linear_cross_entropy(features, self.weight, self.bias, targets, scale)
        nll = self.nll(features, targets)
        return nll.sum() * scale, nll.detach()

    def nll(self, features: Tensor, targets: Tensor) -> Tensor:
        """Returns -log p(target) in nats, [N], for features [N, H] and target ids [N]."""
        return functional.cross_entropy(self._logits(features), targets, reduction="none")

    def log_probs(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Returns the log-probability of every token; see `Head.log_probs`."""
        return functional.log_softmax(self._logits(features), dim=-1)

    def _logits(self, features: Tensor) -> Tensor:
        return at_least_fp32(functional.linear(features, self.weight, self.bias))  # [..., V]
