"""The LSTM whose input and state adjust each other before every step."""

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.cells.lstm import LSTMCell


class MogrifierCell(Cell):
    """Mogrifier LSTM (Melis et al. 2020, arXiv 1909.01792, equations 1 and 2).

        x ← 2 σ(Q_k h) ⊙ x      in the odd rounds k = 1, 3, ...
        h ← 2 σ(R_k x) ⊙ h      in the even rounds k = 2, 4, ...

    each with what the rounds before made of x and h; then an LSTM's step.

    Args:
        input_size: I, of x.
        hidden_size: H, of h and c.
        rounds: how many; 0 is an LSTM.
        forget_bias: of the LSTM.
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
        """The equations; the state is (h, c)."""
        h, c = state
        for k, weight in enumerate(self.rounds):
            if k % 2 == 0:
                x = 2 * torch.sigmoid(nn.functional.linear(h, weight)) * x
            else:
                h = 2 * torch.sigmoid(nn.functional.linear(x, weight)) * h
        return self.lstm.step(self.lstm.inputs(x), (h, c))
