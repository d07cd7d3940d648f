"""JANET, an LSTM with only a forget gate."""

import torch
from torch import Tensor

from ptblm.model.cells.cell import Affine, Cell, CellState
from ptblm.model.cells.chrono import fill_forget_bias
from ptblm.model.initializers import Initializer


class JANETCell(Cell):
    """JANET, "just another network" (van der Westhuizen & Lasenby 2018, arXiv:1804.04849).

        s = W_f x + U_f h + b_f
        c' = σ(s) ⊙ c + (1 - σ(s - β)) ⊙ tanh(W_c x + U_c h + b_c)
        h' = c'

    With β > 0 the cell admits slightly more than it forgets. Chrono initialization (Tallec &
    Ollivier 2018, arXiv:1804.11188) sets b_f to log(u), with u uniform in [1, T_max - 1], so that
    units remember for up to T_max time steps. The rows of the weights are in the order f, c.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h.
        beta: β.
        chrono_steps: T_max, in time steps; None initializes b_f to zero.
    """

    remembers_in_output = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        beta: float = 1.0,
        chrono_steps: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.beta = beta
        self.chrono_steps = chrono_steps
        self.gates = Affine(input_size, hidden_size, 2 * hidden_size)

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes the weights as in `Cell`, then the bias of the forget gate."""
        super().initialize(initializer, generator)
        if self.chrono_steps is not None:
            forget = self.gates.bias[: self.hidden_size]
            fill_forget_bias(forget, self.chrono_steps, generator)

    def inputs(self, x: Tensor) -> Tensor:
        """Computes W x + b of both rows for all time steps, [T, B, 2H]."""
        return self.gates.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h,)."""
        (h,) = state
        s, candidate = self.gates(x, h).chunk(2, dim=1)  # [B, H] each
        h = torch.sigmoid(s) * h + (1 - torch.sigmoid(s - self.beta)) * torch.tanh(candidate)
        return h, (h,)
