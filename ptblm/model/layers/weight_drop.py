"""DropConnect: dropout of the weights that multiply the hidden state.

Source: Wan et al. 2013; for recurrent layers, Merity et al. 2018, arXiv:1708.02182, section 2.
"""

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Affine
from ptblm.model.layers.dropout import dropout_mask


def recurrent_weights(module: nn.Module) -> dict[str, Tensor]:
    """Returns the weights that multiply the hidden state, by name: those of all affine maps."""
    return {
        f"{name}.weight_hh": part.weight_hh
        for name, part in module.named_modules()
        if isinstance(part, Affine)
    }


def dropped_weights(
    module: nn.Module, rate: float, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Returns the recurrent weights after dropout, by name; an empty dict without dropout.

    `torch.func.functional_call` runs the module with them. The parameters of the module stay as
    they are and receive the gradient through the mask. (Replacing a parameter by `nn.Parameter` of
    the dropped weight would cut the gradient: the weight would never be trained.)

    Args:
        module: a recurrent layer.
        rate: fraction of weights to drop, in [0, 1).
        generator: draws the masks, which are used for all time steps; None disables dropout.
    """
    if generator is None or rate == 0:
        return {}
    return {
        name: weight * dropout_mask(weight, rate, generator)
        for name, weight in recurrent_weights(module).items()
    }
