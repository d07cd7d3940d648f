"""Simple recurrent unit (SRU), whose gates do not depend on the state."""

import math

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.initializers import Initializer


class SRUCell(Cell):
    """SRU (Lei et al. 2018, arXiv:1709.02755).

        f = σ(W_f x + b_f)                      forget gate
        r = σ(W_r x + b_r)                      highway gate, also called reset gate
        c' = f ⊙ c + (1 - f) ⊙ W x
        h' = r ⊙ c' + (1 - r) ⊙ x

    All matrix multiplications depend on the input only, so that one multiplication computes those
    of all time steps. In the highway connection, S x replaces x if the sizes of x and c differ.

    This is the version with which the authors trained language models on the Penn Treebank (`v1` in
    asappresearch/sru, without the scaling constant α). Their later version adds v_f ⊙ c to the
    input of f and v_r ⊙ c to that of r. Without these terms the recurrence is linear in c, so the
    gates of all time steps are also computed at once.

    The rows of the weight are in the order c, f, r, and S if the sizes differ.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h and c.
        highway_bias: initial value of b_r. With a negative value, layers start close to copying
            their input.
    """

    remembers_in_output = True

    def __init__(self, input_size: int, hidden_size: int, *, highway_bias: float = -3.0) -> None:
        super().__init__(input_size, hidden_size)
        self.highway_bias = highway_bias
        rows = 3 * hidden_size if input_size == hidden_size else 4 * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size))

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:  # noqa: ARG002
        """Initializes as the authors do: weights with variance 1 / I, b_f = 0, b_r = highway_bias.

        The weights are uniform in [-sqrt(3 / I), sqrt(3 / I)]. `initializer` is not used.
        """
        limit = math.sqrt(3 / self.input_size)
        nn.init.uniform_(self.weight_ih, -limit, limit, generator)
        forget, highway = self.bias.chunk(2)
        nn.init.zeros_(forget)
        nn.init.constant_(highway, self.highway_bias)

    def projections(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes everything that depends on the input only, for all time steps.

        Args:
            x: input of the layer, [T, B, I].

        Returns:
            W x, W_f x + b_f and W_r x + b_r, [T, B, 3H]; and x or S x, [T, B, H].
        """
        size = self.hidden_size
        bias = nn.functional.pad(self.bias, (size, len(self.weight_ih) - 3 * size))
        projected = nn.functional.linear(x, self.weight_ih, bias)
        if self.input_size == size:
            return projected, x
        return projected[..., : 3 * size], projected[..., 3 * size :]

    def inputs(self, x: Tensor) -> Tensor:
        """Returns the results of `projections` side by side, [T, B, 4H]."""
        return torch.cat(self.projections(x), dim=2)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (c,)."""
        (c,) = state
        candidate, f, r, skip = x.chunk(4, dim=1)  # [B, H] each
        f, r = torch.sigmoid(f), torch.sigmoid(r)
        c = f * c + (1 - f) * candidate
        return r * c + (1 - r) * skip, (c,)
