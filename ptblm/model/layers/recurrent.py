"""Recurrent layers: a cell run over time, and a stack of layers with dropout after each.

Shapes: T time, B batch, I inputs of the layer.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.initializers import Initializer
from ptblm.model.kernels.fused import fused_kernel
from ptblm.model.layers.dropout import dropout

logger = logging.getLogger(__name__)

HiddenState = tuple[CellState, ...]
Step = Callable[[Tensor, CellState], tuple[Tensor, CellState]]
InitialState = Literal["zeros", "ones", "learned"]
Kernel = Literal["fused", "unfused", "compiled"]


def detach(hidden_state: HiddenState) -> HiddenState:
    """Returns a detached copy of a hidden state, which truncates backpropagation."""
    return tuple(tuple(part.detach() for part in layer) for layer in hidden_state)


class RecurrentLayer(nn.Module):
    """Runs a cell over time, with a fused kernel if there is one for the cell.

    Args:
        cell: the cell.
        initial_state: "zeros" (or the initial state that the cell defines), "ones", or "learned"
            (trainable and initialized with zeros).
        fused: whether to use a fused kernel if there is one.

    Attributes:
        kernel: "fused"; "unfused", which calls the cell's `step` for each time step; or
            "compiled", which calls `step` compiled by torch.
    """

    def __init__(
        self, cell: Cell, initial_state: InitialState = "zeros", *, fused: bool = True
    ) -> None:
        super().__init__()
        self.cell = cell
        self.initial_state_kind = initial_state
        self.fused = fused_kernel(cell) if fused else None
        self.compiled: Step | None = None
        self.learned_state = nn.ParameterList(
            torch.empty(size) for size in cell.state_sizes if initial_state == "learned"
        )

    @property
    def kernel(self) -> Kernel:
        """The kernel that runs the layer; see the class."""
        if self.fused is not None:
            return "fused"
        return "unfused" if self.compiled is None else "compiled"

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes all weights."""
        self.cell.initialize(initializer, generator)
        for part in self.learned_state:
            nn.init.zeros_(part)

    def compile_step(self, batch_size: int, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compiles the cell's `step` for training, unless the layer has a fused kernel.

        On a GPU, launching the dozen kernels of a step takes longer than running them. If
        compilation fails, the cell runs uncompiled.

        Args:
            batch_size: B; a different batch size would trigger a recompilation.
            backend: backend of torch.compile.
        """
        if self.fused is not None:
            return
        self.compiled = torch.compile(self.cell.step, backend=backend, dynamic=False)
        like = next(self.parameters())
        try:
            outputs, _ = self(
                like.new_zeros(2, batch_size, self.cell.input_size), self.initial_state(batch_size)
            )
            torch.autograd.grad(outputs.sum(), list(self.cell.parameters()), allow_unused=True)
        except Exception as error:  # the compiler can raise any exception
            self.compiled = None
            name = type(self.cell).__name__
            logger.warning(f"torch.compile failed for {name} ({type(error).__name__})")

    def initial_state(self, batch_size: int) -> CellState:
        """Returns the state before the first token of a text; each part is [B, size]."""
        if self.initial_state_kind == "learned":
            return tuple(part.repeat(batch_size, 1) for part in self.learned_state)
        state = self.cell.initial_state(batch_size)
        return tuple(map(torch.ones_like, state)) if self.initial_state_kind == "ones" else state

    def forward(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Runs the cell over time.

        Args:
            x: [T, B, I].
            state: parts of the state, each [B, size].

        Returns:
            The outputs of all time steps, [T, B, cell.output_size], and the last state.
        """
        run = self._run_steps if self.fused is None else partial(self.fused, self.cell)
        outputs, last = run(x, state)
        # The state keeps its type even if the kernel computes in another type.
        pairs = zip(last, state, strict=True)
        return outputs, tuple(part.to(before.dtype) for part, before in pairs)

    def _run_steps(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        # In evaluation, each new batch size would trigger a recompilation.
        step = self.compiled if self.compiled and torch.is_grad_enabled() else self.cell.step
        outputs = []
        for step_input in self.cell.inputs(x).unbind(0):
            output, state = step(step_input, state)
            outputs.append(output)
        return torch.stack(outputs), state


class RecurrentStack(nn.Module):
    """Stacked layers, with dropout after each layer, including the last.

    Args:
        layers: layers from the lowest to the highest.
        dropout_rate: dropout probability after each layer.
    """

    def __init__(self, layers: Sequence[RecurrentLayer], dropout_rate: float) -> None:
        super().__init__()
        self.layers = cast(Sequence[RecurrentLayer], nn.ModuleList(layers))
        self.dropout_rate = dropout_rate

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes every layer."""
        for layer in self.layers:
            layer.initialize(initializer, generator)

    @property
    def kernel(self) -> Kernel:
        """The kernel of the layers; see `RecurrentLayer`."""
        return self.layers[0].kernel

    def compile_steps(self, batch_size: int) -> None:
        """Compiles the layers without a fused kernel for a batch size."""
        for layer in self.layers:
            layer.compile_step(batch_size)

    def initial_state(self, batch_size: int) -> HiddenState:
        """Returns the initial state of every layer."""
        return tuple(layer.initial_state(batch_size) for layer in self.layers)

    def forward(
        self, x: Tensor, hidden_state: HiddenState, generator: torch.Generator | None
    ) -> tuple[Tensor, HiddenState]:
        """Runs x, [T, B, I], through all layers. Dropout is applied only with a generator."""
        last_states = []
        for layer, state in zip(self.layers, hidden_state, strict=True):
            x, last_state = layer(x, state)
            x = dropout(x, self.dropout_rate, generator)
            last_states.append(last_state)
        return x, tuple(last_states)
