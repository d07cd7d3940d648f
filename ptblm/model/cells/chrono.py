"""Chrono initialization, which gives each unit a memory of its own length."""

import torch
from torch import Tensor


@torch.no_grad()
def fill_forget_bias(bias: Tensor, steps: int, generator: torch.Generator) -> None:
    """Sets `bias` to log(u) in place, with u uniform in [1, steps - 1].

    Units then remember for up to `steps` time steps (Tallec & Ollivier 2018, arXiv:1804.11188).

    Args:
        bias: bias of the forget gate, of any shape.
        steps: longest memory, T_max, in time steps; at least 3.
        generator: random number generator.
    """
    bias.uniform_(1, steps - 1, generator=generator).log_()
