"""Gradient clipping by the global norm (Pascanu et al. 2013, algorithm 1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def global_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The L2 norm of all gradients taken as one vector, a tensor of no dimensions."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm([g._values() if g.is_sparse else g for g in gradients])


def clip_coefficient(norm: float, max_norm: float) -> float:
    """What all gradients are to be multiplied by: max_norm / max(norm, max_norm).

    torch's own `clip_grad_norm_` adds 1e-6 to the norm, which TensorFlow does not, and goes
    through all gradients once more; the update takes the coefficient along.
    """
    return max_norm / max(norm, max_norm)


def clip_coefficient_on_device(norm: Tensor, max_norm: float) -> Tensor:
    """The same of a norm that the host does not know yet: float64, as the host has it."""
    return max_norm / norm.double().clamp(min=max_norm)
