"""The cross-entropy of a mixture of softmaxes, with the gradients computed in the forward pass.

With the posterior r_k = π_k p_k(target) / p(target), the gradient of -log p(target) with respect to
the logits of component k is r_k (p_k - onehot(target)), and with respect to log π_k it is -r_k.
Positions are processed in chunks, because the logits are K times as large as those of a single
softmax; see `ptblm.model.kernels.linear_cross_entropy`.

Shapes: N positions, K components, E latent size, V vocabulary, C positions in a chunk.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ptblm.model.kernels.linear_cross_entropy import (
    accumulate,
    autocast_dtype,
    positions_per_chunk,
    take_gradients,
)


def mixture_cross_entropy(
    latents: Tensor,
    log_prior: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Computes `scale` times the summed cross-entropy of a mixture of softmaxes.

    Under autocast, matrix multiplications use the autocast type, and softmaxes at least fp32.

    Args:
        latents: input of each softmax, [N, K, E].
        log_prior: log-probability of each component, [N, K].
        weight: [V, E].
        bias: [V].
        targets: ids, [N].
        scale: factor on the summed loss.

    Returns:
        The loss, a scalar; and -log p(target) in nats, [N], detached.
    """
    dtype = autocast_dtype(latents.device.type, weight.dtype)
    with torch.autocast(latents.device.type, enabled=False):
        loss, nll = _MixtureCrossEntropy.apply(  # type: ignore[no-untyped-call]
            latents, log_prior, weight, bias, targets, scale, dtype
        )
    return loss, nll


class _MixtureCrossEntropy(torch.autograd.Function):
    """Autograd function of `mixture_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any,
        latents: Tensor,
        log_prior: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        scale: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        kernel, operand, offset = weight.to(dtype), latents.to(dtype), bias.to(dtype)
        positions, components, size = latents.shape
        chunk_size = positions_per_chunk(positions, len(kernel), components)
        nll = torch.empty(positions, dtype=weight.dtype, device=latents.device)
        d_latents, d_log_prior = torch.empty_like(operand), torch.empty_like(log_prior)
        d_weight, d_bias = torch.empty_like(weight), torch.zeros_like(bias)
        rows = torch.arange(chunk_size * components, device=latents.device)
        for start in range(0, positions, chunk_size):
            part = slice(start, start + chunk_size)
            x = operand[part].reshape(-1, size)  # [C * K, E]
            target = targets[part, None].expand(-1, components).flatten()  # [C * K]
            at_target = rows[: len(x)], target
            logits = torch.mm(x, kernel.t()).add_(offset)  # [C * K, V]
            log_p = torch.log_softmax(logits, -1, dtype=weight.dtype)
            joint = log_prior[part] + log_p[at_target].view(-1, components)  # [C, K]
            nll[part] = -torch.logsumexp(joint, 1)
            d_joint = torch.softmax(joint, 1).mul_(scale)  # the posterior, [C, K]
            d_log_prior[part] = -d_joint
            p = log_p.exp_()
            p[at_target] -= 1
            d_logits = p.mul_(d_joint.view(-1, 1)).to(dtype)  # [C * K, V]
            torch.mm(d_logits, kernel, out=d_latents[part].view(-1, size))
            accumulate(d_weight, d_logits, x, first=start == 0)
            d_bias += d_logits.sum(0, dtype=bias.dtype)
        ctx.gradients = (d_latents.to(latents.dtype), d_log_prior, d_weight, d_bias)
        ctx.mark_non_differentiable(nll)
        ctx.set_materialize_grads(False)
        return nll.sum() * scale, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        return (*take_gradients(ctx, d_loss), None, None, None)
