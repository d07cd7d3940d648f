"""Converts weights between TensorFlow's tutorial model and ours.

The layers' kernels are as `cell_weights` says; the softmax weight is [H, V] there and [V, H]
here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ptblm.model.interop.cells import Arrays, load_tensorflow_cell, to_tensorflow_cell
from ptblm.model.language_model import LanguageModel

_CELL = "Model/RNN/multi_rnn_cell/cell_{layer}/basic_lstm_cell/"


def load_tensorflow_weights(model: LanguageModel, variables: Mapping[str, Any]) -> None:
    """Writes the tutorial's variables, by their TensorFlow names, into `model`.

    Raises:
        KeyError: if a variable is missing.
        ValueError: if one has another shape than the model's.
    """
    for index, layer in enumerate(model.recurrent.layers):
        prefix = _CELL.format(layer=index)
        kernel, bias = (np.asarray(variables[prefix + name]) for name in ("kernel", "bias"))
        load_tensorflow_cell(layer.cell, {"kernel": kernel, "bias": bias})
    ours = {
        "embedding.weight": np.asarray(variables["Model/embedding"]),
        "head.weight": np.asarray(variables["Model/softmax_w"]).T,
        "head.bias": np.asarray(variables["Model/softmax_b"]),
    }
    with torch.no_grad():
        for name, array in ours.items():
            parameter = model.get_parameter(name)
            if parameter.shape != array.shape:
                raise ValueError(f"{name}: {array.shape} does not fit {tuple(parameter.shape)}")
            parameter.copy_(torch.from_numpy(array.copy()))


def to_tensorflow_weights(model: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """The tutorial's variables from `tensors`, weights or gradients, named as in `model`."""
    theirs = {
        "Model/embedding": tensors["embedding.weight"].detach().cpu().numpy(),
        "Model/softmax_w": tensors["head.weight"].detach().cpu().numpy().T,
        "Model/softmax_b": tensors["head.bias"].detach().cpu().numpy(),
    }
    for index, layer in enumerate(model.recurrent.layers):
        own = f"recurrent.layers.{index}.cell."
        parts = {
            name.removeprefix(own): tensor
            for name, tensor in tensors.items()
            if name.startswith(own)
        }
        for name, array in to_tensorflow_cell(layer.cell, parts).items():
            theirs[_CELL.format(layer=index) + name] = array
    return theirs
