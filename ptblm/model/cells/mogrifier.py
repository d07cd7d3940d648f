"""Mogrifier LSTM, whose input and hidden state gate each other before each step."""

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.initializers import Initializer


class MogrifierRounds(nn.ParameterList):
    """The weights of the rounds in which input and hidden state gate each other.

        x ← 2 σ(Q_k h) ⊙ x      in the odd rounds k = 1, 3, ...
        h ← 2 σ(R_k x) ⊙ h      in the even rounds k = 2, 4, ...

    Each round uses x and h from the previous rounds (Melis et al. 2020, arXiv:1909.01792, equations
    1 and 2). With a rank, each matrix is the product of a left factor, [outputs, rank], and a right
    factor, [rank, inputs] (section 2 of the paper). The parameters are the matrices in the order of
    the rounds, or the left and the right factor of each.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h.
        rounds: number of rounds; 0 leaves x and h unchanged.
        rank: rank of the matrices; None means full rank.
    """

    def __init__(self, input_size: int, hidden_size: int, rounds: int, rank: int | None) -> None:
        super().__init__()
        self.rank = rank
        for k in range(rounds):
            outputs, inputs = (input_size, hidden_size) if k % 2 == 0 else (hidden_size, input_size)
            if rank is None:
                self.append(torch.empty(outputs, inputs))
            else:
                self.extend([torch.empty(outputs, rank), torch.empty(rank, inputs)])

    def balance(self, initializer: Initializer) -> None:
        """Gives the factors of each matrix the same variance, if the initializer is lecun_normal.

        The initializer sets the variance of each factor to 1 / fan_in. In deepmind/lamb, the
        program of the paper, the standard deviation of both is (1 / (inputs · rank))^(1/4). The
        variance of their product, 1 / inputs, is the same.
        """
        if self.rank is None or initializer.kind != "lecun_normal":
            return
        factors = list(self)
        with torch.no_grad():
            for left, right in zip(factors[::2], factors[1::2], strict=True):
                scale = (right.shape[1] / self.rank) ** 0.25
                left.div_(scale)
                right.mul_(scale)

    def gate(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x, [B, I], and h, [B, H], after all rounds."""
        weights = list(self)
        size = 1 if self.rank is None else 2
        for k in range(len(weights) // size):
            gate = h if k % 2 == 0 else x
            for weight in reversed(weights[k * size : (k + 1) * size]):
                gate = nn.functional.linear(gate, weight)
            gate = 2 * torch.sigmoid(gate)
            x, h = (gate * x, h) if k % 2 == 0 else (x, gate * h)
        return x, h


class MogrifierCell(Cell):
    """Mogrifier LSTM (Melis et al. 2020, arXiv:1909.01792).

    `MogrifierRounds` transforms x and h, and an LSTM step follows.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h and c.
        rounds: number of rounds; 0 is equivalent to an LSTM.
        rank: rank of the matrices of the rounds; None means full rank.
        forget_bias: constant added to the input of the LSTM's forget gate; not trained.
        cap_input_gate: whether to limit the LSTM's input gate to 1 - f.
        chrono_steps: longest memory that the biases are initialized for; see `LSTMCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rounds: int = 5,
        rank: int | None = None,
        forget_bias: float = 0.0,
        cap_input_gate: bool = False,
        chrono_steps: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.lstm = LSTMCell(
            input_size,
            hidden_size,
            forget_bias=forget_bias,
            cap_input_gate=cap_input_gate,
            chrono_steps=chrono_steps,
        )
        self.state_sizes = self.lstm.state_sizes
        self.rounds = MogrifierRounds(input_size, hidden_size, rounds, rank)

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes the LSTM, then the matrices of the rounds or their factors."""
        self.lstm.initialize(initializer, generator)
        for weight in self.rounds:
            initializer.matrix(weight, generator)
        self.rounds.balance(initializer)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h, c)."""
        h, c = state
        x, h = self.rounds.gate(x, h)
        return self.lstm.step(self.lstm.inputs(x), (h, c))
