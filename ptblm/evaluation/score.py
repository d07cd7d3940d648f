"""The score of a text: the summed negative log-likelihood and the number of tokens."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """The negative log-likelihood of a text under a model.

    Scores are additive: the score of a text is the sum of the scores of its parts.

    Attributes:
        nll: sum of -log p over the targets, in nats.
        tokens: number of targets.
        breakdown: score of the targets that are each special token (`<unk>`, `<eos>`), by token.
    """

    nll: float = 0.0
    tokens: int = 0
    breakdown: Mapping[str, "Score"] = field(default_factory=dict)

    def __add__(self, other: "Score") -> "Score":
        """Returns the score of both texts combined."""
        kinds = {**self.breakdown, **other.breakdown}
        breakdown = {kind: self.part(kind) + other.part(kind) for kind in kinds}
        return Score(self.nll + other.nll, self.tokens + other.tokens, breakdown)

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
        """Exponential of the mean -log p per token, in nats."""
        return perplexity(self.nll, self.tokens)

    def part(self, kind: str) -> "Score":
        """Returns the score of a special token; an empty score if it is not in `breakdown`."""
        return self.breakdown.get(kind, Score())

    def without(self, kind: str) -> "Score | None":
        """Returns the score of all targets except one special token; None if no target is left."""
        part = self.part(kind)
        tokens = self.tokens - part.tokens
        return Score(self.nll - part.nll, tokens) if tokens else None


def perplexity(nll: float, tokens: int) -> float:
    """Returns exp(nll / tokens), or infinity if the result exceeds the range of a float."""
    try:
        return math.exp(nll / tokens)
    except OverflowError:
        return math.inf
