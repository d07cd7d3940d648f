"""The LSTM that has a forget gate alone."""

import torch
from torch import Tensor

from ptblm.model.cells.cell import Affine, Cell, CellState
from ptblm.model.initializers import Initializer


class JANETCell(Cell):
    """JANET, just another network (van der Westhuizen & Lasenby 2018, arXiv 1804.04849).

        s = W_f x + U_f h + b_f
        c' = σ(s) ⊙ c + (1 - σ(s - β)) ⊙ tanh(W_c x + U_c h + b_c)
        h' = c'

    β > 0 lets a little more in than is forgotten. With the chrono initialization (Tallec &
    Ollivier 2018) b_f starts at log(u), u uniform in [1, T_max - 1]: units that remember for up
    to T_max steps. Rows lie in the order f, c.

    Args:
        input_size: of x.
        hidden_size: of h.
        beta: β.
        chrono_steps: T_max; None starts b_f at zero.
    """

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
        """As all cells, but for the forget gate's bias."""
        super().initialize(initializer, generator)
        if self.chrono_steps is not None:
            with torch.no_grad():
                forget = self.gates.bias[: self.hidden_size]
                forget.uniform_(1, self.chrono_steps - 1, generator=generator).log_()

    def inputs(self, x: Tensor) -> Tensor:
        """W x + b of both."""
        return self.gates.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """The equations; the state is (h,)."""
        (h,) = state
        s, candidate = self.gates(x, h).chunk(2, dim=1)
        h = torch.sigmoid(s) * h + (1 - torch.sigmoid(s - self.beta)) * torch.tanh(candidate)
        return h, (h,)
