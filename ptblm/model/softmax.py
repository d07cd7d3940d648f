"""The softmax over the vocabulary, with its loss.

Shapes: N positions, H hidden, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Softmax(nn.Module):
    """Turns hidden vectors into the negative log-likelihood of target words.

    Args:
        hidden_size: H.
        vocab_size: V.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(vocab_size))

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Weight and bias uniform in [-scale, scale]."""
        nn.init.uniform_(self.weight, -scale, scale, generator)
        nn.init.uniform_(self.bias, -scale, scale, generator)

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities, [N, V], of hidden vectors, [N, H]."""
        return functional.linear(hidden, self.weight, self.bias)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p(target) in nats, [N], for hidden vectors [N, H] and target ids [N].

        Logits of a reduced precision are widened first: a sum over V terms wants fp32.
        """
        logits = self.logits(hidden)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return functional.cross_entropy(wide, targets, reduction="none")
