"""Mogrifier LSTM, whose input and hidden state gate each other before each step."""

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.cells.lstm import LSTMCell


class MogrifierCell(Cell):
    """Mogrifier LSTM (Melis et al. 2020, arXiv:1909.01792, equations 1 and 2).

        x ← 2 σ(Q_k h) ⊙ x      in the odd rounds k = 1, 3, ...
        h ← 2 σ(R_k x) ⊙ h      in the even rounds k = 2, 4, ...

    Each round uses x and h from the previous rounds. An LSTM step follows.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h and c.
        rounds: number of rounds; 0 is equivalent to an LSTM.
        forget_bias: constant added to the input of the LSTM's forget gate; not trained.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, rounds: int = 5, forget_bias: float = 0.0
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.lstm = LSTMCell(input_size, hidden_size, forget_bias=forget_bias)
        self.state_sizes = self.lstm.state_sizes
        shapes = [(input_size, hidden_size), (hidden_size, input_size)]
        self.rounds = nn.ParameterList(torch.empty(shapes[k % 2]) for k in range(rounds))

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h, c)."""
        h, c = state
        for k, weight in enumerate(self.rounds):
            if k % 2 == 0:
                x = 2 * torch.sigmoid(nn.functional.linear(h, weight)) * x  # [B, I]
            else:
                h = 2 * torch.sigmoid(nn.functional.linear(x, weight)) * h  # [B, H]
        return self.lstm.step(self.lstm.inputs(x), (h, c))
