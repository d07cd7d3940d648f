"""A language model as plain layers that other libraries have: LSTM, GRU or RNN, and a softmax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from torch import Tensor

from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.heads.softmax import Softmax
from ptblm.model.interop.pytorch import to_pytorch_cell
from ptblm.model.language_model import LanguageModel

Kind = Literal["lstm", "gru", "rnn_tanh", "rnn_relu"]
Layer = TypeVar("Layer")


@dataclass(frozen=True)
class PlainLayer:
    """A recurrent layer with the weights of PyTorch.

    Attributes:
        kind: the kind of the layer.
        weights: `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh`; see `to_pytorch_cell`.
    """

    kind: Kind
    weights: dict[str, Tensor]

    @property
    def hidden_size(self) -> int:
        """The number of units, H."""
        return int(self.weights["weight_hh"].shape[1])


@dataclass(frozen=True)
class PlainModel(Generic[Layer]):
    """The layers of a language model, without dropout.

    Attributes:
        embedding: vectors of the tokens, [V, E].
        layers: the recurrent layers, from the lowest to the highest.
        sum_layers: whether the softmax sees the sum of the outputs of all layers.
        projection: a linear map without bias before the softmax, [P, H]; None for no map.
        weight: weight of the softmax, [V, P].
        bias: bias of the softmax, [V].
        initial_state: the state before the first token: for each layer, its parts, [H] each.
    """

    embedding: Tensor
    layers: list[Layer]
    sum_layers: bool
    projection: Tensor | None
    weight: Tensor
    bias: Tensor
    initial_state: list[list[Tensor]]


def plain_model(model: LanguageModel, convert: Callable[[Cell], Layer]) -> PlainModel[Layer]:
    """Returns the layers of a model.

    Args:
        model: the model.
        convert: returns the layer of another library that equals a cell, or raises TypeError.

    Raises:
        TypeError: if other libraries have no equivalent of a layer or of the head.
    """
    if type(model.head) is not Softmax:
        raise TypeError(f"the head {type(model.head).__name__} is not a plain softmax")
    projection = None if model.projection is None else model.projection.detach()
    return PlainModel(
        model.embedding.get_parameter("weight").detach(),
        [convert(layer.cell) for layer in model.recurrent.layers],
        model.recurrent.sum_layers,
        projection,
        model.head.weight.detach(),
        model.head.bias.detach(),
        [[part[0].detach() for part in layer] for layer in model.initial_state(1)],
    )


def pytorch_layer(cell: Cell) -> PlainLayer:
    """Returns the layer of PyTorch that equals a cell.

    Raises:
        TypeError: if PyTorch has no equivalent layer.
    """
    weights = to_pytorch_cell(cell)
    match cell:
        case LSTMCell():
            return PlainLayer("lstm", weights)
        case GRUCell():
            return PlainLayer("gru", weights)
        case RNNCell(activation="relu"):
            return PlainLayer("rnn_relu", weights)
        case _:  # to_pytorch_cell rejects other cells
            return PlainLayer("rnn_tanh", weights)
