"""Converts the weights of PyTorch's recurrent layers (nn.LSTM, nn.GRU, nn.RNN).

Both store matrices as [outputs, inputs], and the gates in the same order: i, f, g, o in an LSTM (g
is j in ptblm) and r, z, n in a GRU. PyTorch has two biases, bias_ih and bias_hh. ptblm has their
sum, except in the candidate of a GRU, where the reset gate multiplies only the second.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell


def from_pytorch_cell(cell: Cell, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the parameters of a cell, by name, from those of a layer of PyTorch.

    Args:
        cell: an LSTM without peepholes and with a forget_bias of 0, a GRU with reset_gate "after",
            or a simple RNN. It can be on the meta device.
        weights: `weight_ih`, [rows, I], `weight_hh`, [rows, H], and, unless the layer has no
            biases, `bias_ih` and `bias_hh`, [rows].

    Raises:
        KeyError: if a matrix is missing.
        TypeError: if PyTorch has no equivalent cell.
    """
    match cell:
        case LSTMCell(peepholes=None, projection=None, forget_bias=0):
            affine = "gates"
        case GRUCell(reset_gate="after"):
            affine = "gates"
        case RNNCell():
            affine = "affine"
        case _:
            name = type(cell).__name__
            raise TypeError(f"PyTorch has no equivalent of {name} with these options")
    rows = weights["weight_ih"].shape[0]
    first, second = (
        weights[name].double() if name in weights else torch.zeros(rows, dtype=torch.float64)
        for name in ("bias_ih", "bias_hh")
    )  # float64 makes the sum exact
    parameters: dict[str, Tensor] = {}
    if isinstance(cell, GRUCell):
        gates = 2 * cell.hidden_size
        parameters["candidate_bias"] = second[gates:].float()
        second = torch.cat([second[:gates], torch.zeros_like(second[gates:])])
    parameters[f"{affine}.weight_ih"] = weights["weight_ih"]
    parameters[f"{affine}.weight_hh"] = weights["weight_hh"]
    parameters[f"{affine}.bias"] = (first + second).float()
    return parameters


def to_pytorch_cell(cell: Cell) -> dict[str, Tensor]:
    """Returns the weights of the layer of PyTorch that equals a cell: the inverse of the above.

    Returns:
        The result of `with_two_biases`.

    Raises:
        TypeError: if PyTorch has no equivalent cell.
    """
    match cell:
        case LSTMCell(
            peepholes=None,
            projection=None,
            cap_input_gate=False,
            gate_activation="sigmoid",
            activation="tanh",
        ):
            pass
        case GRUCell(reset_gate="after", gate_activation="sigmoid", activation="tanh"):
            pass
        case RNNCell(activation="tanh" | "relu"):
            pass
        case _:
            raise no_equivalent(cell, "PyTorch")
    return with_two_biases(cell)


def with_two_biases(cell: Cell) -> dict[str, Tensor]:
    """Returns the affine map of a built-in LSTM, GRU or RNN, with the two biases of PyTorch.

    Returns:
        `weight_ih`, [rows, I], `weight_hh`, [rows, H], `bias_ih` and `bias_hh`, [rows].
        `forget_bias` is part of `bias_hh`.

    Raises:
        TypeError: if it is another cell.
    """
    # A subclass can compute anything.
    if isinstance(cell, LSTMCell | GRUCell) and type(cell) in (LSTMCell, GRUCell):
        affine = cell.gates
    elif isinstance(cell, RNNCell) and type(cell) is RNNCell:
        affine = cell.affine
    else:
        raise no_equivalent(cell, "PyTorch")
    second = torch.zeros_like(affine.bias.detach())
    if isinstance(cell, LSTMCell):
        second[cell.hidden_size : 2 * cell.hidden_size] = cell.forget_bias
    if isinstance(cell, GRUCell) and cell.candidate_bias is not None:
        second[2 * cell.hidden_size :] = cell.candidate_bias.detach()
    return {
        "weight_ih": affine.weight_ih.detach(),
        "weight_hh": affine.weight_hh.detach(),
        "bias_ih": affine.bias.detach(),
        "bias_hh": second,
    }


def no_equivalent(cell: Cell, library: str) -> TypeError:
    """Returns the error of a cell that a library does not have."""
    name = type(cell).__name__.removesuffix("Cell")
    return TypeError(f"{library} has no equivalent of {name} with these options")
