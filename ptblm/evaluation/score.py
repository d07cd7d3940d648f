"""A score: summed likelihoods and counts, divided once, at the end."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """What a text cost a model.

    Attributes:
        nll: summed -log p over the targets, in nats.
        tokens: how many targets were summed.
        shares: the part of it that fell on targets of one kind, for each kind kept apart
            (`<unk>`, `<eos>`).
    """

    nll: float = 0.0
    tokens: int = 0
    shares: Mapping[str, "Score"] = field(default_factory=dict)

    def __add__(self, other: "Score") -> "Score":
        """The score of both texts."""
        kinds = {**self.shares, **other.shares}
        shares = {kind: self.share(kind) + other.share(kind) for kind in kinds}
        return Score(self.nll + other.nll, self.tokens + other.tokens, shares)

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

    def share(self, kind: str) -> "Score":
        """The part that fell on targets of a kind; nothing where that was not kept apart."""
        return self.shares.get(kind, Score())

    def without(self, kind: str) -> "Score | None":
        """The score of the targets that are not of a kind; None where there are none."""
        share = self.share(kind)
        tokens = self.tokens - share.tokens
        return Score(self.nll - share.nll, tokens) if tokens else None


def perplexity(nll: float, tokens: int) -> float:
    """exp(nll / tokens), or infinity where that is beyond a float."""
    try:
        return math.exp(nll / tokens)
    except OverflowError:
        return math.inf
