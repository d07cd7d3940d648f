"""Converts weights between TensorFlow's tutorial model and ours.

TensorFlow keeps one kernel per LSTM layer, [I + H, 4 H]: rows for the inputs, then for the
state; column blocks for the gates in the order i, j (candidate), f, o. We keep torch's two
matrices, [4 H, I] and [4 H, H], gates in the order i, f, j, o. The softmax weight is [H, V]
there and [V, H] here.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ptblm.model.language_model import LanguageModel

Arrays = dict[str, NDArray[np.floating]]

_KERNEL = "Model/RNN/multi_rnn_cell/cell_{layer}/basic_lstm_cell/kernel"
_BIAS = "Model/RNN/multi_rnn_cell/cell_{layer}/basic_lstm_cell/bias"

# Exchanging the second and third gate turns i, j, f, o into i, f, j, o, and back.
_EXCHANGE = [0, 2, 1, 3]


def load_tensorflow_weights(model: LanguageModel, variables: Mapping[str, object]) -> None:
    """Writes the tutorial's variables, by their TensorFlow names, into `model`.

    Raises:
        KeyError: if a variable is missing.
        ValueError: if one has another shape than the model's.
    """
    ours = {
        "embedding.weight": np.asarray(variables["Model/embedding"]),
        "softmax.weight": np.asarray(variables["Model/softmax_w"]).T,
        "softmax.bias": np.asarray(variables["Model/softmax_b"]),
    }
    for index, layer in enumerate(model.recurrent.layers):
        kernel = np.asarray(variables[_KERNEL.format(layer=index)])
        input_size = kernel.shape[0] - layer.hidden_size
        kernel = _exchange_gates(kernel.T)
        prefix = f"recurrent.layers.{index}.lstm."
        ours[prefix + "weight_ih_l0"] = kernel[:, :input_size]
        ours[prefix + "weight_hh_l0"] = kernel[:, input_size:]
        bias = np.asarray(variables[_BIAS.format(layer=index)])
        ours[prefix + "bias_ih_l0"] = _exchange_gates(bias)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, array in ours.items():
            if parameters[name].shape != array.shape:
                raise ValueError(f"{name}: {array.shape} does not fit {parameters[name].shape}")
            parameters[name].copy_(torch.from_numpy(array.copy()))


def to_tensorflow_weights(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """TensorFlow's variables from a model's state_dict, or from gradients named like one."""
    ours = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    theirs = {
        "Model/embedding": ours["embedding.weight"],
        "Model/softmax_w": ours["softmax.weight"].T,
        "Model/softmax_b": ours["softmax.bias"],
    }
    layer = 0
    while (prefix := f"recurrent.layers.{layer}.lstm.") + "weight_ih_l0" in ours:
        kernel = np.concatenate(
            [ours[prefix + "weight_ih_l0"], ours[prefix + "weight_hh_l0"]], axis=1
        )
        theirs[_KERNEL.format(layer=layer)] = _exchange_gates(kernel).T
        theirs[_BIAS.format(layer=layer)] = _exchange_gates(ours[prefix + "bias_ih_l0"])
        layer += 1
    return theirs


def _exchange_gates(array: NDArray[np.floating]) -> NDArray[np.floating]:
    """Exchanges the second and third of four equal blocks of rows."""
    blocks = array.reshape(4, -1, *array.shape[1:])
    return blocks[_EXCHANGE].reshape(array.shape)
