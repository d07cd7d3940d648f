"""What a cell is: one time step of a recurrent layer.

Shapes: T time, B batch, I the cell's inputs, H its units.
"""

import torch
from torch import Tensor, nn

from ptblm.model.initializers import Initializer

CellState = tuple[Tensor, ...]


class Cell(nn.Module):
    """The base of all cells: a subclass has parameters, and a `step` that uses them.

    Args:
        input_size: I.
        hidden_size: H.

    Attributes:
        state_sizes: numbers in each part of the state; (H,) unless a subclass says otherwise.
        output_size: numbers that a step gives out; H unless a subclass says otherwise.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.state_sizes: tuple[int, ...] = (hidden_size,)
        self.output_size = hidden_size

    def inputs(self, x: Tensor) -> Tensor:
        """What `step` is given for each time step; here `x` itself.

        One product over all time steps is several times as fast as one in every step, so
        whatever does not depend on the state belongs here.

        Args:
            x: [T, B, I].

        Returns:
            [T, B, any size].
        """
        return x

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step.

        Args:
            x: one step of what `inputs` returned, [B, its size].
            state: its parts, [B, size] for each of `state_sizes`.

        Returns:
            The output, [B, output_size], and the next state.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def initial_state(self, batch_size: int) -> CellState:
        """The state before a text's first word; zeros unless a subclass says otherwise."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, size) for size in self.state_sizes)

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Sets all matrices as `initializer` says, and the biases of affine maps to zero.

        Other vectors stay as the subclass made them. To start otherwise, it overrides this.
        """
        for module in self.modules():
            if isinstance(module, Affine):
                initializer.kernel(module.weight_ih, module.weight_hh, generator)
                nn.init.zeros_(module.bias)
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.dim() > 1:
                    initializer.matrix(parameter, generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


class Affine(nn.Module):
    """W x + U h + b, for one gate or for several at once, whose rows lie one after another.

    TensorFlow keeps W and U as one kernel of [I + H, rows]; apart, W x of all time steps is
    one product.

    Args:
        input_size: I, of x.
        hidden_size: H, of h.
        rows: numbers in the result.

    Attributes:
        weight_ih: W, [rows, I].
        weight_hh: U, [rows, H].
        bias: b, [rows].
    """

    def __init__(self, input_size: int, hidden_size: int, rows: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias = nn.Parameter(torch.empty(rows))

    def inputs(self, x: Tensor) -> Tensor:
        """W x + b, [..., rows], for x of [..., I]."""
        return nn.functional.linear(x, self.weight_ih, self.bias)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """`x` + U h, [B, rows], where `x` is a step of what `inputs` gave and h is [B, H]."""
        return torch.addmm(x, h, self.weight_hh.t())
