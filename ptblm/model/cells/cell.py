"""The base class of recurrent cells, which compute one time step of a recurrent layer.

Shapes: T time steps, B batch size, I input size, H hidden size.
"""

import torch
from torch import Tensor, nn

from ptblm.model.initializers import Initializer

CellState = tuple[Tensor, ...]


class Cell(nn.Module):
    """Base class of all cells. Subclasses define parameters and implement `step`.

    Args:
        input_size: I.
        hidden_size: H.

    Attributes:
        state_sizes: size of each part of the state; (H,) unless a subclass sets it.
        output_size: size of the output; H unless a subclass sets it.
        remembers_in_output: whether the first part of the state is also the memory of the cell, so
            that dropout would erase what it remembers; False unless a subclass sets it.
    """

    remembers_in_output = False

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.state_sizes: tuple[int, ...] = (hidden_size,)
        self.output_size = hidden_size

    def inputs(self, x: Tensor) -> Tensor:
        """Computes the input of `step` for all time steps at once. The default returns `x`.

        Override this to compute everything that does not depend on the state. One matrix
        multiplication over all time steps is several times faster than one per step.

        Args:
            x: input of the layer, [T, B, I].

        Returns:
            Input of `step`, [T, B, any size].
        """
        return x

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step.

        Args:
            x: one time step of the result of `inputs`, [B, any size].
            state: parts of the state, [B, size] for each size in `state_sizes`.

        Returns:
            The output, [B, output_size], and the next state.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement step()")

    def masked_step(self, mask: Tensor, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step with dropout of the first part of the state, such as h.

        The next state is without dropout. Override this if other values are also to be masked.

        Args:
            mask: scaled dropout mask of the first part of the state, in its shape.
            x: see `step`.
            state: see `step`.
        """
        return self.step(x, (state[0] * mask, *state[1:]))

    def initial_state(self, batch_size: int) -> CellState:
        """Returns the state before the first token. The default is zeros."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, size) for size in self.state_sizes)

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Fills all matrices with `initializer` and sets the biases of affine maps to zero.

        Other vectors keep their values. Override this to initialize parameters differently.
        """
        for module in self.modules():
            if isinstance(module, Affine):
                initializer.kernel(
                    module.weight_ih, module.weight_hh, generator, units=self.hidden_size
                )
                nn.init.zeros_(module.bias)
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.dim() > 1:
                    initializer.matrix(parameter, generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


class Affine(nn.Module):
    """The affine map W x + U h + b, for one gate or for several gates stacked in rows.

    TensorFlow stores W and U as one kernel of [I + H, rows]. With two separate matrices,
    W x of all time steps is a single matrix multiplication.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h.
        rows: size of the result.

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
        """Returns W x + b, [..., rows], for x of shape [..., I]."""
        return nn.functional.linear(x, self.weight_ih, self.bias)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Returns `x` + U h, [B, rows].

        Args:
            x: one time step of the result of `inputs`, [B, rows].
            h: hidden state, [B, H].
        """
        return torch.addmm(x, h, self.weight_hh.t())
