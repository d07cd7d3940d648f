"""Converts weights to and from TensorFlow 1: single cells and the tutorial's language model.

TensorFlow stores matrices as [inputs, outputs], ptblm as [outputs, inputs]. In TensorFlow, the
kernel of a cell is one matrix, [I + H, rows]. ptblm has one matrix for the input and one for the
hidden state. The order of the gates differs:

              TensorFlow 1                          ptblm
    LSTM      i, j, f, o                            i, f, j, o
    GRU       r, z in "gates"; n in "candidate"     r, z, n

Variables have their TensorFlow names. Gradients are converted in the same way.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.interop.arrays import Array, Arrays, copy_parameters, to_arrays
from ptblm.model.language_model import LanguageModel

_PEEPHOLES = ("w_i_diag", "w_f_diag", "w_o_diag")
_LAYER = "Model/RNN/multi_rnn_cell/cell_{index}/basic_lstm_cell/"


def load_tensorflow_cell(cell: Cell, variables: Mapping[str, Array]) -> None:
    """Copies the variables of a TensorFlow 1 cell into `cell`.

    Args:
        cell: an LSTM, a simple RNN, or a GRU with reset_gate "before".
        variables: `kernel` and `bias`; for an LSTM also `w_i_diag`, `w_f_diag` and `w_o_diag` if
            it has peepholes, and `projection/kernel` if it has a projection. For a GRU:
            `gates/kernel`, `gates/bias`, `candidate/kernel` and `candidate/bias`.

    Raises:
        KeyError: if a variable is missing.
        ValueError: if a variable has the wrong shape.
        TypeError: if TensorFlow 1 has no equivalent cell.
    """
    match cell:
        case LSTMCell():
            kernel, bias = (_swap_gates(variables[name]) for name in ("kernel", "bias"))
            arrays = _split_kernel("gates", kernel, bias, cell)
            if cell.peepholes is not None:
                arrays["peepholes"] = np.stack([variables[name] for name in _PEEPHOLES])
            if cell.projection is not None:
                arrays["projection"] = variables["projection/kernel"].T
        case GRUCell(candidate_bias=None):
            kernel, bias = (
                np.concatenate([variables["gates/" + n], variables["candidate/" + n]], axis=-1)
                for n in ("kernel", "bias")
            )
            arrays = _split_kernel("gates", kernel, bias, cell)
        case RNNCell():
            arrays = _split_kernel("affine", variables["kernel"], variables["bias"], cell)
        case _:
            raise _no_equivalent(cell)
    copy_parameters(cell, arrays)


def to_tensorflow_cell(cell: Cell, tensors: Mapping[str, Tensor]) -> Arrays:
    """Converts tensors named like the parameters of `cell` to TensorFlow 1 variables.

    Raises:
        TypeError: if TensorFlow 1 has no equivalent cell.
    """
    arrays = to_arrays(tensors)
    match cell:
        case LSTMCell():
            kernel, bias = _join_kernel("gates", arrays)
            variables = {"kernel": _swap_gates(kernel), "bias": _swap_gates(bias)}
            if cell.peepholes is not None:
                variables |= dict(zip(_PEEPHOLES, arrays["peepholes"], strict=True))
            if cell.projection is not None:
                variables["projection/kernel"] = arrays["projection"].T
            return variables
        case GRUCell(candidate_bias=None):
            kernel, bias = _join_kernel("gates", arrays)
            gates, candidate = slice(2 * cell.hidden_size), slice(2 * cell.hidden_size, None)
            return {
                "gates/kernel": kernel[:, gates],
                "gates/bias": bias[gates],
                "candidate/kernel": kernel[:, candidate],
                "candidate/bias": bias[candidate],
            }
        case RNNCell():
            kernel, bias = _join_kernel("affine", arrays)
            return {"kernel": kernel, "bias": bias}
        case _:
            raise _no_equivalent(cell)


def load_tensorflow_weights(model: LanguageModel, variables: Mapping[str, Any]) -> None:
    """Copies the variables of the tutorial's model (ptb_word_lm.py) into `model`.

    Args:
        model: a language model with LSTM layers.
        variables: arrays by TensorFlow variable name, such as "Model/softmax_w".

    Raises:
        KeyError: if a variable is missing.
        ValueError: if a variable has the wrong shape.
        TypeError: if the tutorial's model has no equivalent of the output of `model`.
    """
    _check_output(model)
    for index, layer in enumerate(model.recurrent.layers):
        prefix = _LAYER.format(index=index)
        names = ("kernel", "bias")
        load_tensorflow_cell(layer.cell, {n: np.asarray(variables[prefix + n]) for n in names})
    copy_parameters(
        model,
        {
            "embedding.weight": np.asarray(variables["Model/embedding"]),
            "head.weight": np.asarray(variables["Model/softmax_w"]).T,
            "head.bias": np.asarray(variables["Model/softmax_b"]),
        },
    )


def to_tensorflow_weights(model: LanguageModel, tensors: Mapping[str, Tensor]) -> Arrays:
    """Converts weights or gradients of `model` to the variables of the tutorial's model.

    Args:
        model: a language model with LSTM layers.
        tensors: weights or gradients, named like the parameters of `model`.

    Raises:
        TypeError: if the tutorial's model has no equivalent of the output of `model`.
    """
    _check_output(model)
    outer = to_arrays({n: t for n, t in tensors.items() if not n.startswith("recurrent.")})
    variables = {
        "Model/embedding": outer["embedding.weight"],
        "Model/softmax_w": outer["head.weight"].T,
        "Model/softmax_b": outer["head.bias"],
    }
    for index, layer in enumerate(model.recurrent.layers):
        prefix = f"recurrent.layers.{index}.cell."
        of_cell = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        for name, array in to_tensorflow_cell(layer.cell, of_cell).items():
            variables[_LAYER.format(index=index) + name] = array
    return variables


def _check_output(model: LanguageModel) -> None:
    """Raises TypeError unless a separate softmax sees the output of the last layer."""
    names = {n for n in model.state_dict() if not n.startswith("recurrent.")}
    if names != {"embedding.weight", "head.weight", "head.bias"} or model.recurrent.sum_layers:
        raise TypeError(
            "the model of the TensorFlow tutorial has no tied embedding, output projection, sum of "
            "layers or other head"
        )


def _split_kernel(affine: str, kernel: Array, bias: Array, cell: Cell) -> Arrays:
    """Converts a TensorFlow kernel, [I + H, rows], and bias, [rows], to `Affine` parameters."""
    return {
        f"{affine}.weight_ih": kernel[: cell.input_size].T,
        f"{affine}.weight_hh": kernel[cell.input_size :].T,
        f"{affine}.bias": bias,
    }


def _join_kernel(affine: str, arrays: Arrays) -> tuple[Array, Array]:
    """Returns the TensorFlow kernel and bias; the inverse of `_split_kernel`."""
    parts = [arrays[f"{affine}.weight_ih"].T, arrays[f"{affine}.weight_hh"].T]
    return np.concatenate(parts), arrays[f"{affine}.bias"]


def _swap_gates(array: Array) -> Array:
    """Converts the last axis from i, j, f, o to i, f, j, o, or back."""
    i, second, third, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, third, second, o], axis=-1)


def _no_equivalent(cell: Cell) -> TypeError:
    return TypeError(f"TensorFlow 1 has no equivalent of {type(cell).__name__} with these options")
