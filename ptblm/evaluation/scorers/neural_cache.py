"""The neural cache of Grave, Joulin and Usunier (2017, arXiv:1612.04426).

The cache contains the features h_i that predicted each of the previous tokens x_i. A token is
probable if it followed features that are similar to the present ones:

    p_cache(w) = sum of softmax_i(theta h . h_i) over the entries i with x_i = w
    p(w) = (1 - weight) p_model(w) + weight p_cache(w)

The features are the input of the head, without dropout. The mixture starts as soon as there is one
entry; the code of AWD-LSTM, `pointer.py`, uses no cache for the first `window` tokens.

Shapes: T tokens of a chunk, N entries before it, H features, V vocabulary.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Entries(NamedTuple):
    """The entries of a cache while it reads a chunk.

    Attributes:
        features: features of the N entries before the chunk and of the chunk itself, [N + T, H].
        tokens: the token that each of them predicted, [N + T].
        before: N.
    """

    features: Tensor
    tokens: Tensor
    before: int

    def attention(self, window: int, theta: float) -> Tensor:
        """Returns the share of each entry in the cache of each token, [T, N + T].

        A token has the last `window` entries before it. The row of a token without one is 0.
        """
        queries = self.features[self.before :]  # [T, H]
        scores = theta * (queries @ self.features.t())  # [T, N + T]
        columns = torch.arange(len(self.tokens), device=scores.device)
        ends = self.before + torch.arange(len(queries), device=scores.device)[:, None]  # [T, 1]
        is_outside = (columns >= ends) | (columns < ends - window)
        attention = scores.masked_fill_(is_outside, -math.inf).softmax(dim=1)
        return attention.masked_fill_(is_outside, 0)  # NaN in a row without entries

    @property
    def is_empty(self) -> Tensor:
        """Whether there is no entry before a token of the chunk, [T]."""
        return torch.arange(self.before, len(self.tokens), device=self.tokens.device) == 0

    def target_probs(self, attention: Tensor) -> Tensor:
        """Returns the probability of the token that follows in the text, [T]."""
        is_target = self.tokens == self.tokens[self.before :, None]  # [T, N + T]
        return (attention * is_target).sum(dim=1)

    def probs(self, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the W different tokens of the entries, [W], and their probabilities, [T, W]."""
        words, index = self.tokens.unique(return_inverse=True)
        zeros = attention.new_zeros(len(attention), len(words))
        return words, zeros.scatter_add_(1, index.expand_as(attention), attention)


class NeuralCache:
    """The features and tokens at the end of a text.

    Args:
        window: number of tokens that are kept.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._features: Tensor | None = None
        self._tokens: Tensor | None = None

    def read(self, features: Tensor, targets: Tensor) -> Entries:
        """Adds a chunk to the cache.

        Args:
            features: features that predict each target, [T, H].
            targets: ids, [T].

        Returns:
            The entries, including those of the chunk.
        """
        before = 0
        if self._features is not None and self._tokens is not None:
            before = len(self._tokens)
            features = torch.cat([self._features, features])
            targets = torch.cat([self._tokens, targets])
        self._features, self._tokens = features[-self._window :], targets[-self._window :]
        return Entries(features, targets, before)


def mix_cache(
    log_probs: Tensor, cache_probs: Tensor | None, weight: float, is_empty: Tensor
) -> Tensor:
    """Returns the log-probabilities of the mixture of model and cache, in the shape of both.

    Args:
        log_probs: log-probabilities of the model, [T, ...].
        cache_probs: probabilities of the cache, [T, ...]; None for tokens that it does not contain.
        weight: weight of the cache, greater than 0 and less than 1.
        is_empty: where the cache is empty, so that the model remains as it is, [T].
    """
    mixed = log_probs + math.log1p(-weight)
    if cache_probs is not None:
        mixed = torch.logaddexp(mixed, cache_probs.log() + math.log(weight))
    return torch.where(is_empty.view(-1, *(1 for _ in log_probs.shape[1:])), log_probs, mixed)
