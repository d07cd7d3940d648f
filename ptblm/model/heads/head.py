"""The base class of heads, which compute the probability of each token from features.

Shapes: N positions, H features, V vocabulary, S columns of the weight.
"""

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Base class of all heads. Subclasses implement `nll` and `log_probs`.

    Args:
        num_features: H.
        vocab_size: V.
        weight_size: S.
        rows: rows of the weight, one for each class of the softmax; None for V.

    Attributes:
        weight: a vector for each token, [V, S]; in a tied model, the table of the embedding.
        bias: [V].
        logits_per_position: elements that `log_probs` computes for each position.
        logits_per_target: elements that `nll` computes for each position.
    """

    def __init__(
        self, num_features: int, vocab_size: int, weight_size: int, rows: int | None = None
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.vocab_size = vocab_size
        self.logits_per_position = vocab_size
        self.logits_per_target = vocab_size
        self.weight = nn.Parameter(torch.empty(rows or vocab_size, weight_size))
        self.bias = nn.Parameter(torch.empty(rows or vocab_size))

    def initialize(
        self, scale: float, generator: torch.Generator, *, is_tied: bool = False
    ) -> None:
        """Initializes weight and bias uniformly in [-scale, scale].

        Args:
            scale: bound of the distribution.
            generator: random number generator.
            is_tied: whether the weight is that of the embedding, which is already initialized.
        """
        if not is_tied:
            nn.init.uniform_(self.weight, -scale, scale, generator)
        nn.init.uniform_(self.bias, -scale, scale, generator)

    @torch.no_grad()
    def set_bias(self, bias: Tensor) -> None:
        """Sets the bias, in its shape."""
        self.bias.copy_(bias)

    def loss(
        self,
        features: Tensor,
        targets: Tensor,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes the loss of a training step.

        Args:
            features: [N, H], or [T, B, H] with N = T * B.
            targets: ids, [N] or [T, B].
            scale: factor on the summed loss.
            generator: draws the dropout masks of the head; None disables its dropout.

        Returns:
            The loss, a scalar: `scale` times the sum of -log p(target); and -log p(target) in nats,
            [N], detached.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement loss()")

    def nll(self, features: Tensor, targets: Tensor) -> Tensor:
        """Returns -log p(target) in nats, [N], for features [N, H] and target ids [N]."""
        raise NotImplementedError(f"{type(self).__name__} does not implement nll()")

    def log_probs(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the log-probability of every token, [..., V].

        Args:
            features: [N, H], or [T, B, H] if there is a generator.
            generator: draws the dropout masks of the head; None disables its dropout.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement log_probs()")


def at_least_fp32(logits: Tensor) -> Tensor:
    """Returns logits in at least fp32, which the sum over V terms requires."""
    return logits if logits.dtype == torch.float64 else logits.float()
