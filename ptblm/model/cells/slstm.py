"""Simplified LSTM (S-LSTM)."""

import torch
from torch import Tensor

from ptblm.model.cells.cell import Affine, Cell, CellState


class SLSTMCell(Cell):
    """S-LSTM, a simplified LSTM (Wu & King 2016, arXiv:1601.02539).

        f = σ(W_f x + R_f h + b_f + forget_bias)
        c' = f ⊙ c + (1 - f) ⊙ tanh(W_c x + R_c h + b_c)
        h' = tanh(c')

    This is an LSTM without an output gate and with input gate 1 - f. The rows of the weights are in
    the order f, c.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h and c.
        forget_bias: constant added to the input of the forget gate; not trained.
    """

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 0.0) -> None:
        super().__init__(input_size, hidden_size)
        self.state_sizes = (hidden_size, hidden_size)
        self.forget_bias = forget_bias
        self.gates = Affine(input_size, hidden_size, 2 * hidden_size)

    def inputs(self, x: Tensor) -> Tensor:
        """Computes W x + b of both rows for all time steps, [T, B, 2H]."""
        return self.gates.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h, c)."""
        h, c = state
        f, candidate = self.gates(x, h).chunk(2, dim=1)  # [B, H] each
        f = torch.sigmoid(f + self.forget_bias)
        c = f * c + (1 - f) * torch.tanh(candidate)
        h = torch.tanh(c)
        return h, (h, c)
