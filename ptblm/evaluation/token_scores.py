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

from ptblm.model.heads.head import Head

# Elements of the logits that are computed at once.
_ELEMENTS = 2**22
# Elements of the logits that are summed at once on a CPU. They stay in its cache, which makes the
# sums three times as fast.
_CACHED_ELEMENTS = 2**17


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


def token_scores(head: Head, features: Tensor, targets: Tensor, measures: Measures) -> TokenScores:
    """Scores tokens.

    Args:
        head: the head of the model.
        features: [N, H].
        targets: ids, [N].
        measures: what to compute besides -log p.
    """
    if not (measures.entropy or measures.rank or measures.top):
        chunks = _chunks(features, targets, _ELEMENTS // head.logits_per_target)
        return TokenScores(_nats(torch.cat([head.nll(*chunk) for chunk in chunks])))
    chunks = _chunks(features, targets, _ELEMENTS // head.logits_per_position)
    found = [_measure(head.log_probs(part), ids, measures) for part, ids in chunks]
    return _as_scores(found, measures)


def distribution_scores(log_probs: Tensor, targets: Tensor, measures: Measures) -> TokenScores:
    """Scores tokens, given the distributions that predict them.

    Args:
        log_probs: log-probabilities, [N, V].
        targets: ids, [N].
        measures: what to compute besides -log p; the states are not known.
    """
    with torch.inference_mode():
        return _as_scores([_measure(log_probs, targets, measures)], measures)


def _as_scores(found: Sequence[tuple[Tensor, ...]], measures: Measures) -> TokenScores:
    """Returns the results of `_measure` for consecutive parts of a text."""
    nll, entropy, rank, top_ids, top_nll = (torch.cat(each) for each in zip(*found, strict=True))
    return TokenScores(
        _nats(nll),
        _nats(entropy) if measures.entropy else None,
        _numpy(rank.long()) if measures.rank else None,
        _numpy(top_ids) if measures.top else None,
        _nats(top_nll) if measures.top else None,
    )


def _measure(log_probs: Tensor, targets: Tensor, measures: Measures) -> tuple[Tensor, ...]:
    """Returns the fields of `TokenScores`; empty tensors for what is not wanted.

    With a softmax, -log p is bit for bit that of `Head.nll`, whatever the measures.

    Args:
        log_probs: log-probabilities, [N, V], which are overwritten.
        targets: ids, [N].
        measures: what to compute besides -log p.
    """
    target = log_probs.gather(1, targets[:, None])  # [N, 1]
    entropy = rank = top_ids = top_nll = targets[:0]
    if measures.top:
        top_log_probs, top_ids = log_probs.topk(min(measures.top, log_probs.shape[1]), dim=1)
        top_nll = -top_log_probs
    on_cpu = log_probs.device.type == "cpu"
    size = _CACHED_ELEMENTS // log_probs.shape[1] if on_cpu else len(log_probs)
    parts = list(_chunks(log_probs, target, size))
    if measures.rank:
        rank = torch.cat([_more_probable(*part) for part in parts]) + 1
    if measures.entropy:
        entropy = torch.cat([_entropy(part) for part, _ in parts])
    return -target[:, 0], entropy, rank, top_ids, top_nll


def _more_probable(log_probs: Tensor, target: Tensor) -> Tensor:
    """Returns the number of tokens that are more probable than the target, [N], as floats."""
    # A sum of floats is several times as fast as a sum of booleans.
    return torch.gt(log_probs, target, out=torch.empty_like(log_probs)).sum(1)


def _entropy(log_probs: Tensor) -> Tensor:
    """Returns the entropy of distributions, [N], in nats."""
    # A probability of 0 contributes 0, although its logarithm may be -inf.
    return -log_probs.exp().mul_(log_probs.clamp_(min=-1e4)).sum(1)


def _chunks(first: Tensor, second: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, rows)
    return zip(first.split(rows), second.split(rows), strict=True)


def _nats(tensor: Tensor) -> NDArray[np.float64]:
    nats: NDArray[np.float64] = _numpy(tensor.double()) + 0.0  # -0.0 becomes 0.0
    return nats


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
