"""Converts the weights of single cells from and to TensorFlow 1's and Keras's layouts.

Theirs are [inputs, outputs], ours [outputs, inputs], so everything is transposed. TensorFlow's
cells keep one kernel of [I + H, rows]: first the rows for the inputs, then those for the state;
Keras's keep the two apart, as `kernel` and `recurrent_kernel`. The gates stand in other orders:

              TensorFlow 1                     Keras          ours
    LSTM      i, j, f, o                       i, f, j, o     i, f, j, o
    GRU       r, z in gates; n in candidate    z, r, n        r, z, n

The names are those of the cells' own variables. Gradients convert as weights do.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell

Array = NDArray[np.floating[Any]]
Arrays = dict[str, Array]

_PEEPHOLES = ("w_i_diag", "w_f_diag", "w_o_diag")


def load_tensorflow_cell(cell: Cell, theirs: Mapping[str, Array]) -> None:
    """Writes a TensorFlow 1 cell's variables into `cell`.

    Args:
        cell: an LSTM, a GRU that resets before the product, or a simple RNN.
        theirs: `kernel` and `bias`, and as the cell has them `w_i_diag`, `w_f_diag`, `w_o_diag`
            and `projection/kernel`; of a GRU `gates/kernel`, `gates/bias`, `candidate/kernel`
            and `candidate/bias`.

    Raises:
        KeyError: if one is missing.
        ValueError: if one has another shape than the cell's.
        TypeError: if TensorFlow has no such cell.
    """
    match cell:
        case LSTMCell():
            ours = _split_kernel("gates", _swap(theirs["kernel"]), _swap(theirs["bias"]), cell)
            if cell.peepholes is not None:
                ours["peepholes"] = np.stack([theirs[name] for name in _PEEPHOLES])
            if cell.projection is not None:
                ours["projection"] = theirs["projection/kernel"].T
        case GRUCell(candidate_bias=None):
            kernel = np.concatenate([theirs["gates/kernel"], theirs["candidate/kernel"]], axis=1)
            bias = np.concatenate([theirs["gates/bias"], theirs["candidate/bias"]])
            ours = _split_kernel("gates", kernel, bias, cell)
        case RNNCell():
            ours = _split_kernel("affine", theirs["kernel"], theirs["bias"], cell)
        case _:
            raise TypeError(f"TensorFlow 1 has no cell like {type(cell).__name__}")
    _write(cell, ours)


def to_tensorflow_cell(cell: Cell, tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """TensorFlow 1's variables from `tensors`, named as the cell's parameters are.

    Raises:
        TypeError: if TensorFlow has no such cell.
    """
    ours = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    match cell:
        case LSTMCell():
            kernel, bias = _join_kernel("gates", ours)
            theirs = {"kernel": _swap(kernel), "bias": _swap(bias)}
            if cell.peepholes is not None:
                theirs |= dict(zip(_PEEPHOLES, ours["peepholes"], strict=True))
            if cell.projection is not None:
                theirs["projection/kernel"] = ours["projection"].T
            return theirs
        case GRUCell(candidate_bias=None):
            kernel, bias = _join_kernel("gates", ours)
            gates = slice(2 * cell.hidden_size)
            candidate = slice(2 * cell.hidden_size, None)
            return {
                "gates/kernel": kernel[:, gates],
                "gates/bias": bias[gates],
                "candidate/kernel": kernel[:, candidate],
                "candidate/bias": bias[candidate],
            }
        case RNNCell():
            kernel, bias = _join_kernel("affine", ours)
            return {"kernel": kernel, "bias": bias}
        case _:
            raise TypeError(f"TensorFlow 1 has no cell like {type(cell).__name__}")


def load_keras_cell(cell: Cell, theirs: Mapping[str, Array]) -> None:
    """Writes a Keras cell's `kernel`, `recurrent_kernel` and `bias` into `cell`.

    Keras adds nothing to the forget gate when it runs (unit_forget_bias is in the bias), so an
    LSTM must have a forget_bias of 0.

    Keras's GRU that resets after the product has two biases, [2, 3 H], where only the
    candidate's second can matter; the others are added up.

    Raises:
        KeyError: if one is missing.
        ValueError: if one has another shape than the cell's.
        TypeError: if Keras has no such cell.
    """
    kernel, recurrent, bias = (theirs[name] for name in ("kernel", "recurrent_kernel", "bias"))
    extra: Arrays = {}
    match cell:
        case LSTMCell(peepholes=None, projection=None, forget_bias=0):
            name = "gates"
        case GRUCell():
            name = "gates"
            kernel, recurrent, bias = (_rotate(array) for array in (kernel, recurrent, bias))
            if cell.candidate_bias is not None:
                first, second = bias.astype(np.float64)  # so that nothing is lost in the sum
                extra["candidate_bias"] = second[2 * cell.hidden_size :].copy()
                second[2 * cell.hidden_size :] = 0
                bias = first + second
        case RNNCell():
            name = "affine"
        case _:
            raise TypeError(f"Keras has no cell like {type(cell).__name__}")
    _write(
        cell,
        {
            f"{name}.weight_ih": kernel.T,
            f"{name}.weight_hh": recurrent.T,
            f"{name}.bias": bias,
            **extra,
        },
    )


def to_keras_cell(cell: Cell, tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Keras's variables from `tensors`, named as the cell's parameters are.

    Raises:
        TypeError: if Keras has no such cell.
    """
    ours = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    match cell:
        case LSTMCell(peepholes=None, projection=None, forget_bias=0):
            return _keras_names("gates", ours)
        case GRUCell():
            theirs = _keras_names("gates", ours)
            if cell.candidate_bias is not None:
                second = np.zeros_like(theirs["bias"])
                second[2 * cell.hidden_size :] = ours["candidate_bias"]
                theirs["bias"] = np.stack([theirs["bias"], second])
            return {name: _rotate(array) for name, array in theirs.items()}
        case RNNCell():
            return _keras_names("affine", ours)
        case _:
            raise TypeError(f"Keras has no cell like {type(cell).__name__}")


def _keras_names(affine: str, ours: Mapping[str, Array]) -> Arrays:
    return {
        "kernel": ours[f"{affine}.weight_ih"].T,
        "recurrent_kernel": ours[f"{affine}.weight_hh"].T,
        "bias": ours[f"{affine}.bias"],
    }


def _split_kernel(affine: str, kernel: Array, bias: Array, cell: Cell) -> Arrays:
    inputs = cell.input_size
    return {
        f"{affine}.weight_ih": kernel[:inputs].T,
        f"{affine}.weight_hh": kernel[inputs:].T,
        f"{affine}.bias": bias,
    }


def _join_kernel(affine: str, ours: Mapping[str, Array]) -> tuple[Array, Array]:
    parts = [ours[f"{affine}.weight_ih"].T, ours[f"{affine}.weight_hh"].T]
    return np.concatenate(parts), ours[f"{affine}.bias"]


def _swap(array: Array) -> Array:
    """Exchanges the second and third quarter of the last axis: i, j, f, o and i, f, j, o."""
    i, second, third, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, third, second, o], axis=-1)


def _rotate(array: Array) -> Array:
    """Exchanges the first and second third of the last axis: z, r, n and r, z, n."""
    first, second, n = np.split(array, 3, axis=-1)
    return np.concatenate([second, first, n], axis=-1)


def _write(cell: Cell, ours: Mapping[str, Array]) -> None:
    for name, array in ours.items():
        parameter = cell.get_parameter(name)
        if parameter.shape != array.shape:
            raise ValueError(f"{name}: {array.shape} does not fit {tuple(parameter.shape)}")
    with torch.no_grad():
        for name, array in ours.items():
            cell.get_parameter(name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
