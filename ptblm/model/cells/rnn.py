"""Simple recurrent network (Elman network)."""

from torch import Tensor

from ptblm.model.cells.activations import ACTIVATIONS, Activation
from ptblm.model.cells.cell import Affine, Cell, CellState


class RNNCell(Cell):
    """Simple recurrent network (Elman 1990, "Finding Structure in Time").

        h' = tanh(W x + U h + b)

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h.
        activation: "tanh", or "relu" or "linear" in place of tanh.
    """

    def __init__(self, input_size: int, hidden_size: int, activation: Activation = "tanh") -> None:
        super().__init__(input_size, hidden_size)
        self.activation = activation
        self.affine = Affine(input_size, hidden_size, hidden_size)

    def inputs(self, x: Tensor) -> Tensor:
        """Computes W x + b for all time steps, [T, B, H]."""
        return self.affine.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h,)."""
        (h,) = state
        h = ACTIVATIONS[self.activation](self.affine(x, h))
        return h, (h,)
