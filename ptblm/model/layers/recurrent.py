"""Recurrent layers: a cell run over time, and the stack of them with dropout after each.

Shapes: T time, B batch, I the layer's inputs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.initializers import Initializer
from ptblm.model.kernels.fused import fused_kernel
from ptblm.model.layers.dropout import dropout

State = tuple[CellState, ...]
Step = Callable[[Tensor, CellState], tuple[Tensor, CellState]]
StartState = Literal["zeros", "ones", "learned"]


def detach_state(state: State) -> State:
    """The same values with no gradient behind them: where back-propagation is truncated."""
    return tuple(tuple(part.detach() for part in layer) for layer in state)


class RecurrentLayer(nn.Module):
    """Runs a cell over time, with a fused kernel where there is one for its equations.

    Args:
        cell: the equations.
        initial_state: "zeros" (or what the cell itself starts with), "ones", or "learned":
            trained, and zeros at first.
        plain: whether to go step by step even if there is a fused kernel.
    """

    def __init__(
        self, cell: Cell, initial_state: StartState = "zeros", *, plain: bool = False
    ) -> None:
        super().__init__()
        self.cell = cell
        self.initial_state_kind = initial_state
        self.fused = None if plain else fused_kernel(cell)
        self.compiled: Step | None = None
        self.path = "step by step" if self.fused is None else "fused"
        self.learned_state = nn.ParameterList(
            torch.empty(size) for size in cell.state_sizes if initial_state == "learned"
        )

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Sets all weights."""
        self.cell.initialize(initializer, generator)
        for part in self.learned_state:
            nn.init.zeros_(part)

    def compile_steps(
        self, batch_size: int, backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        """Has torch compile the cell's step into few kernels for training, if it goes by steps.

        Launching the dozen kernels of a step takes a GPU longer than what they do. Where the
        compiler is not to be had, or refuses the cell, the steps stay as they are.

        Args:
            batch_size: B; another would be compiled anew.
            backend: of torch.compile.
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
        except Exception as error:  # a compiler fails in any way it likes
            self.compiled = None
            self.path = f"step by step (not compiled: {type(error).__name__})"
        else:
            self.path = "step by step, compiled"

    def initial_state(self, batch_size: int) -> CellState:
        """The state before a text's first word: its parts, each [B, size]."""
        if self.initial_state_kind == "learned":
            return tuple(part.repeat(batch_size, 1) for part in self.learned_state)
        state = self.cell.initial_state(batch_size)
        return tuple(map(torch.ones_like, state)) if self.initial_state_kind == "ones" else state

    def forward(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Runs over time.

        Args:
            x: [T, B, I].
            state: its parts, each [B, size].

        Returns:
            The outputs of every step, [T, B, the cell's output_size], and the last step's state.
        """
        run = self._run_steps if self.fused is None else partial(self.fused, self.cell)
        outputs, last = run(x, state)
        # Carried on in the precision that it came in, whatever computed it.
        kept = zip(last, state, strict=True)
        return outputs, tuple(part.to(before.dtype) for part, before in kept)

    def _run_steps(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        # Evaluation, of other batch sizes and no hurry, is not worth another compilation.
        step = self.compiled if self.compiled and torch.is_grad_enabled() else self.cell.step
        outputs = []
        for step_input in self.cell.inputs(x).unbind(0):
            output, state = step(step_input, state)
            outputs.append(output)
        return torch.stack(outputs), state


class RecurrentStack(nn.Module):
    """Layers one upon the other, with dropout on the output of each, the last included.

    Args:
        layers: from the lowest to the highest.
        dropout_rate: share dropped after every layer.
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
    def path(self) -> str:
        """How the layers are run, in words."""
        return self.layers[0].path

    def compile_steps(self, batch_size: int) -> None:
        """Has the steps compiled of all layers that go step by step, for a batch's size."""
        for layer in self.layers:
            layer.compile_steps(batch_size)

    def initial_state(self, batch_size: int) -> State:
        """Every layer's start state."""
        return tuple(layer.initial_state(batch_size) for layer in self.layers)

    def forward(
        self, x: Tensor, state: State, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """Runs x ([T, B, I]) through all layers; dropout only with a generator."""
        last_states = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            x, last_state = layer(x, layer_state)
            x = dropout(x, self.dropout_rate, generator)
            last_states.append(last_state)
        return x, tuple(last_states)
