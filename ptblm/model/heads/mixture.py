"""Mixture of softmaxes over the vocabulary with its cross-entropy loss.

Shapes: T time, B batch, N positions, H features, V vocabulary, K components, E latent size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptblm.model.heads.head import Head, at_least_fp32
from ptblm.model.kernels.mixture_cross_entropy import mixture_cross_entropy
from ptblm.model.layers.dropout import dropout


class Mixture(Head):
    """Mixture of softmaxes (Yang et al. 2018, arXiv:1711.03953, section 2.3).

        z_k = tanh(L_k h + l_k)                          latents
        π = softmax(P h)                                 prior of the components
        log p = logsumexp_k(log π_k + log softmax(W z_k + b))

    The K softmaxes share W and b. The log-sum-exp is exact; the program of Yang et al. adds 1e-8 to
    the probabilities, whose sum then exceeds 1.

    Args:
        num_features: H.
        vocab_size: V.
        latent_size: E.
        components: K.
        dropout: dropout probability of the latents.
        fused: whether `loss` processes the positions in chunks, so that memory is bounded.

    Attributes:
        latent_weight: L, [K * E, H].
        latent_bias: l, [K * E].
        prior_weight: P, [K, H].
    """

    def __init__(
        self,
        num_features: int,
        vocab_size: int,
        latent_size: int,
        *,
        components: int,
        dropout: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__(num_features, vocab_size, latent_size)
        self.components = components
        self.dropout_rate = dropout
        self.fused = fused
        self.logits_per_position = self.logits_per_target = components * vocab_size
        self.latent_weight = nn.Parameter(torch.empty(components * latent_size, num_features))
        self.latent_bias = nn.Parameter(torch.empty(components * latent_size))
        self.prior_weight = nn.Parameter(torch.empty(components, num_features))

    def initialize(
        self, scale: float, generator: torch.Generator, *, is_tied: bool = False
    ) -> None:
        """Initializes all weights and the bias uniformly, and the bias of the latents to zero."""
        super().initialize(scale, generator, is_tied=is_tied)
        nn.init.uniform_(self.latent_weight, -scale, scale, generator)
        nn.init.zeros_(self.latent_bias)
        nn.init.uniform_(self.prior_weight, -scale, scale, generator)

    def loss(
        self,
        features: Tensor,
        targets: Tensor,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes the loss of a training step; see `Head.loss`.

        The dropout mask of the latents is the same at every time step of features [T, B, H].
        """
        latents = self._latents(features, generator)  # [..., K * E]
        latents = latents.reshape(-1, self.components, self.weight.shape[1])
        log_prior, targets = self._log_prior(features.flatten(0, -2)), targets.flatten()
        if self.fused and torch.is_grad_enabled():
            return mixture_cross_entropy(latents, log_prior, self.weight, self.bias, targets, scale)
        nll = self._nll(latents, log_prior, targets)
        return nll.sum() * scale, nll.detach()

    def nll(self, features: Tensor, targets: Tensor) -> Tensor:
        """Returns -log p(target) in nats, [N], for features [N, H] and target ids [N]."""
        latents = self._latents(features).unflatten(-1, (self.components, -1))
        return self._nll(latents, self._log_prior(features), targets)

    def log_probs(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the log-probability of every token; see `Head.log_probs`.

        The dropout mask of the latents is that of `loss`.
        """
        latents = self._latents(features, generator).unflatten(-1, (self.components, -1))
        log_p = functional.log_softmax(self._logits(latents), dim=-1)  # [..., K, V]
        return torch.logsumexp(self._log_prior(features).unsqueeze(-1) + log_p, dim=-2)

    def _latents(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the input of the softmaxes, [..., K * E], with dropout given a generator."""
        latents = torch.tanh(functional.linear(features, self.latent_weight, self.latent_bias))
        return dropout(latents, self.dropout_rate, generator, locked=True)

    def _log_prior(self, features: Tensor) -> Tensor:
        """Returns the log-probability of each component, [..., K]."""
        logits = at_least_fp32(functional.linear(features, self.prior_weight))
        return functional.log_softmax(logits, dim=-1)

    def _logits(self, latents: Tensor) -> Tensor:
        return at_least_fp32(functional.linear(latents, self.weight, self.bias))  # [..., K, V]

    def _nll(self, latents: Tensor, log_prior: Tensor, targets: Tensor) -> Tensor:
        """Returns -log p(target), [N], for latents [N, K, E]."""
        logits = self._logits(latents)
        index = targets[:, None, None].expand(-1, self.components, 1)
        log_p = logits.gather(-1, index).squeeze(-1) - logits.logsumexp(-1)  # [N, K]
        return -torch.logsumexp(log_prior + log_p, dim=-1)
