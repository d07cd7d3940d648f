"""Draws a token from the distribution that a model predicts.

Shapes: B sequences, V vocabulary, K candidates.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ptblm.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. The rules apply in the order of the attributes.

    Attributes:
        excluded: ids that are never drawn; the other probabilities are renormalized.
        temperature: divides the log-probabilities. Values below 1 favor probable tokens; 0 always
            selects the most probable token.
        top_k: number of most probable tokens to draw from; 0 for all.
        top_p: draw from the smallest set of most probable tokens with at least this probability.

    Raises:
        UsageError: if a value is out of range.
    """

    excluded: tuple[int, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UsageError(f"temperature {self.temperature:g}: expected a number from 0")
        if self.top_k < 0:
            raise UsageError(f"top-k {self.top_k}: expected a whole number from 0")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p {self.top_p:g}: expected a number above 0 and up to 1")

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always selected, so that nothing is random."""
        return self.temperature == 0 or self.top_k == 1


def draw(log_probs: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Returns the ids of the drawn tokens, [B].

    Args:
        log_probs: log-probability of every token, float64, [B, V].
        uniform: one random number in [0, 1) for each sequence, float64, [B].
        sampling: how the tokens are drawn.
    """
    if sampling.excluded:
        excluded = torch.tensor(sampling.excluded, device=log_probs.device)
        log_probs = log_probs.index_fill(1, excluded, -math.inf)
    if sampling.is_greedy:
        return log_probs.argmax(1)
    candidates = None
    if sampling.top_k or sampling.top_p < 1:
        size = log_probs.shape[1]
        log_probs, candidates = log_probs.topk(min(sampling.top_k or size, size))  # [B, K]
    relative = log_probs - log_probs.amax(1, keepdim=True)
    weights = (relative / sampling.temperature).exp()
    cumulative = weights.cumsum(1)
    if sampling.top_p < 1:
        is_complete = cumulative - weights >= sampling.top_p * cumulative[:, -1:]
        weights = weights.masked_fill(is_complete, 0)
        cumulative = weights.cumsum(1)
    # The product is less than the sum, so a token of weight 0 is never drawn. Only NaN needs the
    # clamp.
    found = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    found = found.clamp(max=cumulative.shape[1] - 1)  # [B, 1]
    return (found if candidates is None else candidates.gather(1, found))[:, 0]
