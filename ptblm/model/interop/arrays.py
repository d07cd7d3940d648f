"""Converts the parameters of a module to and from NumPy arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.floating[Any]]
Arrays = dict[str, Array]


def to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """Converts tensors to NumPy arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def copy_parameters(module: nn.Module, arrays: Mapping[str, Array]) -> None:
    """Copies arrays into the parameters of `module` with the same names.

    Raises:
        ValueError: if an array does not have the shape of its parameter. Nothing is copied.
    """
    for name, array in arrays.items():
        shape = tuple(module.get_parameter(name).shape)
        if shape != array.shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    with torch.no_grad():
        for name, array in arrays.items():
            module.get_parameter(name).copy_(torch.from_numpy(np.array(array, order="C")))
