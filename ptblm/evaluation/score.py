"""A score: summed likelihoods and counts, divided once, at the end."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """What a text cost a model.

    Attributes:
        nll: summed -log p over the targets, in nats.
        tokens: how many targets were summed.
        unk_nll: the part of `nll` that fell on targets that are `<unk>`.
        unk_tokens: how many those were.
    """

    nll: float = 0.0
    tokens: int = 0
    unk_nll: float = 0.0
    unk_tokens: int = 0

    @property
    def nats(self) -> float:
        """Mean -log p per token, in nats."""
        return self.nll / self.tokens

    @property
    def bits(self) -> float:
        """Mean -log p per token, in bits."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """Exp of the mean -log p per token."""
        return perplexity(self.nll, self.tokens)

    @property
    def perplexity_without_unk(self) -> float | None:
        """Perplexity over the targets that are not `<unk>`; None where there are none."""
        tokens = self.tokens - self.unk_tokens
        return perplexity(self.nll - self.unk_nll, tokens) if tokens else None


def perplexity(nll: float, tokens: int) -> float:
    """exp(nll / tokens), or infinity where that is beyond a float."""
    try:
        return math.exp(nll / tokens)
    except OverflowError:
        return math.inf
