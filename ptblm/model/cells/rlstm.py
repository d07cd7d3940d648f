"""RLSTM, an LSTM with rearranged gates, with or without mogrification."""

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Affine, Cell, CellState
from ptblm.model.cells.chrono import fill_forget_bias
from ptblm.model.cells.mogrifier import MogrifierRounds
from ptblm.model.initializers import Initializer


class RLSTMCell(Cell):
    """Rearranged LSTM of "Circling Back to Recurrent Models of Language" (Melis 2022).

        i = σ(W_i x + U_i h + b_i)                          input gate
        j = tanh(W_j x + U_j h + b_j)                       candidate
        f = σ(W_f (i ⊙ j) + U_f h + b_f + forget_bias)      forget gate
        c' = f ⊙ c + min(i, 1 - f) ⊙ j
        o = σ(W_o c' + b_o)                                 output gate
        h' = o ⊙ tanh(c')

    The forget gate sees the input only through the gated candidate, and the output gate sees only
    the memory cell. The input gate is limited to 1 - f, so that |c| never exceeds 1 if it starts
    with zeros. The rows of `gates` are in the order i, j. Paper: arXiv:2211.01848.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h and c.
        rounds: rounds in which x and h gate each other before the step; see `MogrifierRounds`.
        rank: rank of the matrices of the rounds; None means full rank.
        forget_bias: constant added to the input of the forget gate; not trained.
        chrono_steps: T_max, in time steps; b_f is initialized to log(u) with u uniform in
            [1, T_max - 1], as in the paper. None initializes b_f to zero.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rounds: int = 0,
        rank: int | None = None,
        forget_bias: float = 0.0,
        chrono_steps: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.state_sizes = (hidden_size, hidden_size)
        self.forget_bias = forget_bias
        self.chrono_steps = chrono_steps
        self.gates = Affine(input_size, hidden_size, 2 * hidden_size)
        self.forget = Affine(hidden_size, hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.rounds = MogrifierRounds(input_size, hidden_size, rounds, rank)

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes the weights as in `Cell`, then the bias of the forget gate."""
        super().initialize(initializer, generator)
        self.rounds.balance(initializer)
        if self.chrono_steps is not None:
            fill_forget_bias(self.forget.bias, self.chrono_steps, generator)

    def inputs(self, x: Tensor) -> Tensor:
        """Computes W x + b of i and j for all time steps, [T, B, 2H]; returns x with rounds."""
        return x if self.rounds else self.gates.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h, c)."""
        return self._step(x, *state)

    def masked_step(self, mask: Tensor, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step with dropout of h, and of c' as the input of the output gate.

        Both have the same mask, as in the paper. The next state is without dropout.

        Args:
            mask: scaled dropout mask, [B, H].
            x: see `step`.
            state: see `step`.
        """
        h, c = state
        return self._step(x, h * mask, c, mask)

    def _step(
        self, x: Tensor, h: Tensor, c: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        if self.rounds:
            x, h = self.rounds.gate(x, h)
            x = self.gates.inputs(x)
        i, j = self.gates(x, h).chunk(2, dim=1)  # [B, H] each
        i, j = torch.sigmoid(i), torch.tanh(j)
        f = torch.sigmoid(self.forget(self.forget.inputs(i * j), h) + self.forget_bias)
        c = f * c + torch.minimum(i, 1 - f) * j
        o = torch.sigmoid(self.output(c if mask is None else c * mask))
        h = o * torch.tanh(c)
        return h, (h, c)
