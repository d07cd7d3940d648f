"""Adaptive softmax: an exact distribution at a fraction of the cost of a softmax.

Shapes: N positions, H features, V vocabulary, S words of the shortlist, K clusters, C words of a
cluster, R reduced size of a cluster, M positions of a chunk.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptblm.model.heads.head import Head, at_least_fp32
from ptblm.model.kernels.linear_cross_entropy import linear_cross_entropy

# Elements of the logits of a cluster that `nll` computes at once: 16 MB in fp32.
_ELEMENTS = 2**22


class AdaptiveSoftmax(Head):
    """Adaptive softmax (Grave et al. 2017, arXiv:1609.04309), as `nn.AdaptiveLogSoftmaxWithLoss`.

    The ids before the first cutoff are the shortlist, and each cutoff starts a cluster. A softmax
    over the shortlist and the clusters is computed at every position, and a softmax over the words
    of a cluster only where a target is in it:

        log p(w) = log softmax(W h + b)[w]                                          in the shortlist
        log p(w) = log softmax(W h + b)[S + k] + log softmax(W_k P_k h)[w - start]  in cluster k

    The distribution is exact for any order of the ids. It is fast if the shortlist contains most
    of the targets, which it does if the ids are in order of descending count.

    Args:
        num_features: H.
        vocab_size: V.
        cutoffs: increasing ids, less than V; without one, the head is a softmax.
        div_value: cluster k, from 0, has R = H / div_value^(k + 1), rounded down but at least 1.
        fused: whether `loss` uses the fused kernel, which computes loss and gradients in one pass.

    Attributes:
        weight: W, [S + K, H].
        bias: b, [S + K].
        projections: P_k, [R, H].
        cluster_weights: W_k, [C, R].
        clusters: the first id of each cluster and the id after its last one.
    """

    def __init__(
        self,
        num_features: int,
        vocab_size: int,
        cutoffs: Sequence[int],
        div_value: float,
        *,
        fused: bool = True,
    ) -> None:
        ends = [*cutoffs, vocab_size]
        self.shortlist = ends[0]
        rows = self.shortlist + len(cutoffs)
        super().__init__(num_features, vocab_size, num_features, rows)
        self.clusters = list(pairwise(ends))
        self.fused = fused
        self.logits_per_target = rows
        sizes = [max(1, int(num_features // div_value ** (k + 1))) for k in range(len(cutoffs))]
        self.projections = nn.ParameterList(torch.empty(size, num_features) for size in sizes)
        self.cluster_weights = nn.ParameterList(
            torch.empty(end - start, size)
            for (start, end), size in zip(self.clusters, sizes, strict=True)
        )

    def initialize(
        self, scale: float, generator: torch.Generator, *, is_tied: bool = False
    ) -> None:
        """Initializes all weights and the bias uniformly in [-scale, scale]."""
        super().initialize(scale, generator, is_tied=is_tied)
        for weight in (*self.projections, *self.cluster_weights):
            nn.init.uniform_(weight, -scale, scale, generator)

    def loss(
        self,
        features: Tensor,
        targets: Tensor,
        scale: float = 1.0,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Computes the loss of a training step; see `Head.loss`. There is no dropout.

        A cluster without a target receives zero gradients.
        """
        features, targets = features.flatten(0, -2), targets.flatten()
        if not (self.fused and torch.is_grad_enabled()):
            nll = self.nll(features, targets)
            return nll.sum() * scale, nll.detach()
        choices, positions = self._choices(targets)
        loss, nll = linear_cross_entropy(features, self.weight, self.bias, choices, scale)
        for k, (start, _) in enumerate(self.clusters):
            x, target = self._reduced(features[positions[k]], k), targets[positions[k]] - start
            of_cluster = linear_cross_entropy(x, self.cluster_weights[k], None, target, scale)
            loss = loss + of_cluster[0]
            nll = nll.index_add(0, positions[k], of_cluster[1])
        return loss, nll

    def nll(self, features: Tensor, targets: Tensor) -> Tensor:
        """Returns -log p(target) in nats, [N], for features [N, H] and target ids [N]."""
        choices, positions = self._choices(targets)
        nll = functional.cross_entropy(self._choice_logits(features), choices, reduction="none")
        for k, (start, end) in enumerate(self.clusters):
            for chunk in positions[k].split(max(1, _ELEMENTS // (end - start))):  # [M]
                logits, target = self._cluster_logits(features[chunk], k), targets[chunk] - start
                of_cluster = functional.cross_entropy(logits, target, reduction="none")
                nll = nll.index_add(0, chunk, of_cluster)
        return nll

    def log_probs(
        self,
        features: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Returns the log-probability of every token; see `Head.log_probs`."""
        choices = functional.log_softmax(self._choice_logits(features), dim=-1)  # [..., S + K]
        parts = [choices[..., : self.shortlist]]
        for k in range(len(self.clusters)):
            of_cluster = functional.log_softmax(self._cluster_logits(features, k), dim=-1)
            parts.append(of_cluster + choices[..., self.shortlist + k, None])  # [..., C]
        return torch.cat(parts, dim=-1)

    def _choices(self, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the index of each target or its cluster in the first softmax, [N].

        Also returns the positions of the targets of each cluster. On CUDA, this waits for the
        device.
        """
        choices, positions = targets.clone(), []
        for k, (start, end) in enumerate(self.clusters):
            positions.append(((targets >= start) & (targets < end)).nonzero().squeeze(1))
            choices[positions[k]] = self.shortlist + k
        return choices, positions

    def _reduced(self, features: Tensor, k: int) -> Tensor:
        """Returns the input of the softmax of a cluster, [..., R]."""
        return functional.linear(features, self.projections[k])

    def _choice_logits(self, features: Tensor) -> Tensor:
        return at_least_fp32(functional.linear(features, self.weight, self.bias))  # [..., S + K]

    def _cluster_logits(self, features: Tensor, k: int) -> Tensor:
        x = self._reduced(features, k)
        return at_least_fp32(functional.linear(x, self.cluster_weights[k]))  # [..., C]
