"""Converts recurrent cells to the operators LSTM, GRU and RNN of ONNX.

Operators: https://onnx.ai/onnx/operators

Shapes: I inputs of the layer, H units, rows 4H, 3H or H.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.interop.pytorch import no_equivalent, with_two_biases

# The order of the gates in ONNX, by their place in PyTorch.
_LSTM_GATES, _GRU_GATES = (0, 3, 1, 2), (1, 0, 2)
# ptblm has the peepholes of i, f and o, and ONNX those of i, o and f.
_PEEPHOLES = (0, 2, 1)
_ACTIVATIONS = {
    "sigmoid": "Sigmoid",
    "hard_sigmoid": "HardSigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "linear": "Affine",
}
# alpha and beta of max(0, min(1, alpha x + beta)) and alpha x + beta.
_PARAMETERS = {"hard_sigmoid": (0.2, 0.5), "linear": (1.0, 0.0)}


@dataclass(frozen=True)
class OnnxLayer:
    """An operator of ONNX with its weights, for one direction.

    Attributes:
        operator: "LSTM", "GRU" or "RNN".
        attributes: attributes of the operator.
        weight_ih: [1, rows, I].
        weight_hh: [1, rows, H].
        bias: [1, 2 * rows].
        peepholes: [1, 3H]; None if there are none.
    """

    operator: str
    attributes: dict[str, Any]
    weight_ih: NDArray[np.float32]
    weight_hh: NDArray[np.float32]
    bias: NDArray[np.float32]
    peepholes: NDArray[np.float32] | None = None

    @property
    def hidden_size(self) -> int:
        """The number of units, H."""
        return int(self.weight_hh.shape[2])


def onnx_layer(cell: Cell) -> OnnxLayer:
    """Returns the operator that equals a cell.

    Raises:
        TypeError: if ONNX has no equivalent operator.
    """
    match cell:
        case LSTMCell(projection=None, cap_input_gate=False):
            peepholes = None if cell.peepholes is None else cell.peepholes.detach().flatten()
            activations = [cell.gate_activation, cell.activation, cell.activation]
            return _layer("LSTM", cell, _LSTM_GATES, activations, peepholes)
        case GRUCell():
            activations = [cell.gate_activation, cell.activation]
            is_after = int(cell.reset_gate == "after")
            return _layer("GRU", cell, _GRU_GATES, activations, linear_before_reset=is_after)
        case RNNCell():
            return _layer("RNN", cell, (0,), [cell.activation])
    raise no_equivalent(cell, "ONNX")


def _layer(
    operator: str,
    cell: Cell,
    gates: Sequence[int],
    activations: Sequence[str],
    peepholes: Tensor | None = None,
    **attributes: Any,
) -> OnnxLayer:
    weights = {
        name: _reordered(as_array(weight), gates) for name, weight in with_two_biases(cell).items()
    }
    attributes["activations"] = [_ACTIVATIONS[name] for name in activations]
    parameters = [_PARAMETERS[name] for name in activations if name in _PARAMETERS]
    if parameters:
        attributes["activation_alpha"] = [alpha for alpha, _ in parameters]
        attributes["activation_beta"] = [beta for _, beta in parameters]
    return OnnxLayer(
        operator,
        attributes,
        weights["weight_ih"][None],
        weights["weight_hh"][None],
        np.concatenate([weights["bias_ih"], weights["bias_hh"]])[None],
        None if peepholes is None else _reordered(as_array(peepholes), _PEEPHOLES)[None],
    )


def _reordered(rows: NDArray[np.float32], order: Sequence[int]) -> NDArray[np.float32]:
    """Returns the rows of a weight or bias with the blocks of the gates in another order."""
    blocks = np.split(rows, len(order))
    return np.concatenate([blocks[place] for place in order])


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """Returns a tensor as an array in fp32."""
    return np.asarray(tensor.float().cpu().numpy())
