"""Converts weights to and from Keras cells.

Keras stores matrices as [inputs, outputs], ptblm as [outputs, inputs]. The order of the gates is:

              Keras          ptblm
    LSTM      i, f, j, o     i, f, j, o
    GRU       z, r, n        r, z, n

Weights have their Keras names: `kernel`, `recurrent_kernel` and `bias`. Gradients are converted in
the same way.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.interop.arrays import Array, Arrays, copy_parameters, to_arrays


def load_keras_cell(cell: Cell, weights: Mapping[str, Array]) -> None:
    """Copies the weights of a Keras cell into `cell`.

    A Keras GRU that applies the reset gate after the matrix multiplication has two biases,
    [2, 3 H]. Only the candidate needs both. For the other gates, ptblm stores their sum.

    Args:
        cell: an LSTM without peepholes or projection, a GRU, or a simple RNN. The forget_bias of
            an LSTM must be 0, because Keras includes it in `bias` (unit_forget_bias).
        weights: `kernel`, `recurrent_kernel` and `bias`.

    Raises:
        KeyError: if an array is missing.
        ValueError: if an array has the wrong shape.
        TypeError: if Keras has no equivalent cell.
    """
    affine = _affine_name(cell)
    kernel, recurrent, bias = (weights[name] for name in ("kernel", "recurrent_kernel", "bias"))
    arrays: Arrays = {}
    if isinstance(cell, GRUCell):
        kernel, recurrent, bias = (_swap_gates(array) for array in (kernel, recurrent, bias))
        if cell.candidate_bias is not None:
            first, second = bias.astype(np.float64)  # float64 makes the sum exact
            arrays["candidate_bias"] = second[2 * cell.hidden_size :].copy()
            second[2 * cell.hidden_size :] = 0
            bias = first + second
    arrays[f"{affine}.weight_ih"] = kernel.T
    arrays[f"{affine}.weight_hh"] = recurrent.T
    arrays[f"{affine}.bias"] = bias
    copy_parameters(cell, arrays)


def to_keras_cell(cell: Cell, tensors: Mapping[str, Tensor]) -> Arrays:
    """Converts tensors named like the parameters of `cell` to Keras weights.

    Raises:
        TypeError: if Keras has no equivalent cell.
    """
    affine, arrays = _affine_name(cell), to_arrays(tensors)
    weights = {
        "kernel": arrays[f"{affine}.weight_ih"].T,
        "recurrent_kernel": arrays[f"{affine}.weight_hh"].T,
        "bias": arrays[f"{affine}.bias"],
    }
    if not isinstance(cell, GRUCell):
        return weights
    if cell.candidate_bias is not None:
        second = np.zeros_like(weights["bias"])
        second[2 * cell.hidden_size :] = arrays["candidate_bias"]
        weights["bias"] = np.stack([weights["bias"], second])
    return {name: _swap_gates(array) for name, array in weights.items()}


def _affine_name(cell: Cell) -> str:
    """Returns the name of the attribute of `cell` that contains its affine map.

    Raises:
        TypeError: if Keras has no equivalent cell.
    """
    match cell:
        case LSTMCell(peepholes=None, projection=None, forget_bias=0) | GRUCell():
            return "gates"
        case RNNCell():
            return "affine"
        case _:
            name = type(cell).__name__
            raise TypeError(f"Keras has no equivalent of {name} with these options")


def _swap_gates(array: Array) -> Array:
    """Converts the last axis from z, r, n to r, z, n, or back."""
    first, second, n = np.split(array, 3, axis=-1)
    return np.concatenate([second, first, n], axis=-1)
