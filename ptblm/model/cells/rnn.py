"""The simple recurrent network."""

from torch import Tensor

from ptblm.model.cells.activations import ACTIVATIONS, Activation
from ptblm.model.cells.cell import Affine, Cell, CellState


class RNNCell(Cell):
    """The simple recurrent network (Elman 1990, "Finding Structure in Time").

        h' = tanh(W x + U h + b)

    Args:
        input_size: of x.
        hidden_size: of h.
        activation: "relu" or "linear" instead of tanh.
    """

    def __init__(self, input_size: int, hidden_size: int, activation: Activation = "tanh") -> None:
        super().__init__(input_size, hidden_size)
        self.activation = activation
        self.affine = Affine(input_size, hidden_size, hidden_size)

    def inputs(self, x: Tensor) -> Tensor:
        """W x + b."""
        return self.affine.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """The equation; the state is (h,)."""
        (h,) = state
        h = ACTIVATIONS[self.activation](self.affine(x, h))
        return h, (h,)
