"""Scores of single tokens: -log p, and what the model expected in their place.

Shapes: N tokens, H features, V vocabulary, K predictions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptblm.model.heads.softmax import Softmax

# Rows of logits that are computed at once if more than -log p is wanted. Their logits stay in the
# CPU cache for the sums over the vocabulary, which is twice as fast as all rows at once.
_ROWS = 64
# Elements of the logits that are computed at once if only -log p is wanted.
_ELEMENTS = 2**22


@dataclass(frozen=True)
class Measures:
    """What is computed for each token besides -log p.

    Attributes:
        entropy: whether to compute the entropy of the distribution that predicts the token.
        rank: whether to compute the rank of the token among all tokens, by probability.
        top: K, the number of most probable tokens to find.
        states: whether to keep the hidden state that predicts the token, which is slow.
    """

    entropy: bool = False
    rank: bool = False
    top: int = 0
    states: bool = False


@dataclass(frozen=True)
class TokenScores:
    """Scores of the N tokens of a text.

    Attributes:
        nll: -log p of each token in nats, [N]; NaN for a token without context.
        entropy: entropy in nats of the distribution that predicts each token, [N]; None if it was
            not wanted, as below.
        rank: 1 for the most probable token, plus 1 for each token that is more probable, [N].
        top_ids: the K most probable tokens, from the most probable, [N, K].
        top_nll: their -log p in nats, [N, K].
        states: the hidden state that predicts each token: all parts of all layers, one after
            another, [N, S].
    """

    nll: NDArray[np.float64]
    entropy: NDArray[np.float64] | None = None
    rank: NDArray[np.int64] | None = None
    top_ids: NDArray[np.int64] | None = None
    top_nll: NDArray[np.float64] | None = None
    states: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.nll)

    def __getitem__(self, part: slice) -> "TokenScores":
        """Returns the scores of some of the tokens."""
        return TokenScores(*(None if each is None else each[part] for each in self.arrays))  # type: ignore[arg-type]

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The fields in order."""
        return tuple(getattr(self, field.name) for field in fields(self))


def concatenate(parts: Sequence[TokenScores]) -> TokenScores:
    """Returns the scores of consecutive parts of a text as those of one text."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part.arrays for part in parts), strict=True)
    return TokenScores(*(None if each[0] is None else np.concatenate(each) for each in columns))  # type: ignore[arg-type]


def without_context(one: TokenScores) -> TokenScores:
    """Returns the scores of a token without context: NaN, and 0 for ranks and ids.

    Args:
        one: scores of any token, which have the same fields.
    """
    return TokenScores(
        *(
            None if each is None else np.full_like(each, np.nan if each.dtype.kind == "f" else 0)
            for each in one.arrays
        )  # type: ignore[arg-type]
    )


def token_scores(
    head: Softmax, features: Tensor, targets: Tensor, measures: Measures
) -> TokenScores:
    """Scores tokens.

    Args:
        head: the head of the model.
        features: [N, H].
        targets: ids, [N].
        measures: what to compute besides -log p.
    """
    if not (measures.entropy or measures.rank or measures.top):
        rows = max(1, _ELEMENTS // len(head.bias))
        parts = [head.nll(*chunk) for chunk in _chunks(features, targets, rows)]
        return TokenScores(_numpy(torch.cat(parts).double()))
    found = [_measure(head, *chunk, measures) for chunk in _chunks(features, targets, _ROWS)]
    nll, entropy, rank, top_ids, top_nll = (torch.cat(each) for each in zip(*found, strict=True))
    return TokenScores(
        _numpy(nll.double()),
        _numpy(entropy.double()) if measures.entropy else None,
        _numpy(rank) if measures.rank else None,
        _numpy(top_ids) if measures.top else None,
        _numpy(top_nll.double()) if measures.top else None,
    )


def _measure(
    head: Softmax, features: Tensor, targets: Tensor, measures: Measures
) -> tuple[Tensor, ...]:
    """Returns the fields of `TokenScores`; empty tensors for what is not wanted."""
    log_probs = head.log_probs(features)  # [N, V]
    nothing = targets[:0]
    target = log_probs.gather(1, targets[:, None])  # [N, 1]
    entropy = rank = top_ids = top_nll = nothing
    if measures.rank:
        rank = (log_probs > target).sum(1) + 1
    if measures.top:
        top_log_probs, top_ids = log_probs.topk(min(measures.top, log_probs.shape[1]), dim=1)
        top_nll = -top_log_probs
    if measures.entropy:
        # A probability of 0 contributes 0, although its logarithm may be -inf.
        entropy = -torch.linalg.vecdot(log_probs.exp(), log_probs.clamp(min=-1e4))
    return -target[:, 0], entropy, rank, top_ids, top_nll


def _chunks(features: Tensor, targets: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(features.split(rows), targets.split(rows), strict=True)


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
