"""Gradient clipping by the global norm (Pascanu et al. 2013, algorithm 1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def global_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The L2 norm of all gradients taken as one vector, a tensor of no dimensions."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradients(parameters: Sequence[nn.Parameter], norm: Tensor, max_norm: float) -> None:
    """Scales all gradients by max_norm / max(norm, max_norm), in place.

    torch's own `clip_grad_norm_` adds 1e-6 to the norm, which TensorFlow does not.
    """
    coefficient = max_norm / norm.clamp(min=max_norm)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(coefficient)
