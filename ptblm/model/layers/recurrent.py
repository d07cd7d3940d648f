"""Recurrent layers: a cell run over time, and a stack of layers with dropout after each.

Shapes: T time, B batch, I inputs of the layer.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ptblm.config.dropout import DropoutConfig
from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.initializers import Initializer
from ptblm.model.kernels.fused import FusedKernel, fused_kernel
from ptblm.model.layers.dropout import dropout, stream_mask
from ptblm.model.layers.weight_drop import dropped_weights

logger = logging.getLogger(__name__)

HiddenState = tuple[CellState, ...]
Step = Callable[[Tensor, CellState, Tensor | None], tuple[Tensor, CellState]]
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
        dropout: the dropout probabilities of recurrent weights and of the hidden state.
        fused: whether to use a fused kernel if there is one.

    Attributes:
        kernel: "fused"; "unfused", which calls the cell's `step` for each time step; or
            "compiled", which calls `step` compiled by torch.
    """

    def __init__(
        self,
        cell: Cell,
        initial_state: InitialState = "zeros",
        dropout: DropoutConfig | None = None,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.initial_state_kind = initial_state
        self.dropout = dropout or DropoutConfig()
        self.fused = fused
        self.compiled: Step | None = None
        self.learned_state = nn.ParameterList(
            torch.empty(size) for size in cell.state_sizes if initial_state == "learned"
        )

    @property
    def kernel(self) -> Kernel:
        """The kernel that runs the layer in training; see the class."""
        device_type = next(self.parameters()).device.type
        if self._fused_kernel(device_type, masked=self.dropout.recurrent_state > 0):
            return "fused"
        return "unfused" if self.compiled is None else "compiled"

    def _fused_kernel(self, device_type: str, *, masked: bool) -> FusedKernel | None:
        return fused_kernel(self.cell, device_type, masked=masked) if self.fused else None

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
        if self.kernel == "fused":
            return
        self.compiled = torch.compile(self._step, backend=backend, dynamic=False)
        like = next(self.parameters())
        x = like.new_zeros(2, batch_size, self.cell.input_size)
        try:
            generator = torch.Generator(like.device)
            outputs, _ = self.run(x, self.initial_state(batch_size), generator)
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

    def run(
        self, x: Tensor, state: CellState, generator: torch.Generator | None
    ) -> tuple[Tensor, CellState]:
        """Runs the cell over time with dropout of its recurrent weights and its hidden state.

        Args:
            x: see `forward`.
            state: see `forward`.
            generator: draws the masks, which are the same at every time step; None disables
                dropout.
        """
        weights = dropped_weights(self, self.dropout.recurrent_weights, generator)
        mask, rate = None, self.dropout.recurrent_state
        if generator is not None and rate:
            mask = stream_mask(state[0], rate, generator)
        result: tuple[Tensor, CellState] = (
            functional_call(self, weights, (x, state, mask)) if weights else self(x, state, mask)
        )
        return result

    def forward(
        self, x: Tensor, state: CellState, mask: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        """Runs the cell over time.

        Args:
            x: [T, B, I].
            state: parts of the state, each [B, size].
            mask: dropout mask of the first part of the state, [B, size], at every time step; None
                for no dropout.

        Returns:
            The outputs of all time steps, [T, B, cell.output_size], and the last state.
        """
        kernel = self._fused_kernel(x.device.type, masked=mask is not None)
        if kernel is None:
            outputs, last = self._run_steps(x, state, mask)
        else:
            outputs, last = kernel(self.cell, x, state, mask)
        # The state keeps its type even if the kernel computes in another type.
        pairs = zip(last, state, strict=True)
        return outputs, tuple(part.to(before.dtype) for part, before in pairs)

    def _run_steps(
        self, x: Tensor, state: CellState, mask: Tensor | None
    ) -> tuple[Tensor, CellState]:
        # In evaluation, each new batch size would trigger a recompilation.
        step = self.compiled if self.compiled and torch.is_grad_enabled() else self._step
        outputs = []
        for step_input in self.cell.inputs(x).unbind(0):
            output, state = step(step_input, state, mask)
            outputs.append(output)
        return torch.stack(outputs), state

    def _step(self, x: Tensor, state: CellState, mask: Tensor | None) -> tuple[Tensor, CellState]:
        if mask is None:
            return self.cell.step(x, state)
        return self.cell.masked_step(mask, x, state)


class StackOutput(NamedTuple):
    """Results of all layers.

    Attributes:
        features: the output after dropout, [T, B, H].
        undropped: the output before dropout, [T, B, H].
        hidden_state: the hidden state after the last token.
    """

    features: Tensor
    undropped: Tensor
    hidden_state: HiddenState


class RecurrentStack(nn.Module):
    """Stacked layers, with dropout after each layer, including the last.

    Args:
        layers: layers from the lowest to the highest.
        dropout: the dropout probabilities.
        sum_layers: whether the output is the sum of the outputs of all layers, before dropout
            (Melis et al. 2020, arXiv:1909.01792, section 4.1), instead of that of the last layer.
    """

    def __init__(
        self, layers: Sequence[RecurrentLayer], dropout: DropoutConfig, *, sum_layers: bool = False
    ) -> None:
        super().__init__()
        self.layers = cast(Sequence[RecurrentLayer], nn.ModuleList(layers))
        self.dropout = dropout
        self.sum_layers = sum_layers

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
    ) -> StackOutput:
        """Runs x, [T, B, I], through all layers. Dropout is applied only with a generator."""
        rates, last_states = self.dropout, []
        outputs: list[Tensor] = []
        for layer, state in zip(self.layers, hidden_state, strict=True):
            if outputs:
                x = dropout(x, rates.between, generator, locked=rates.locked)
            x, last_state = layer.run(x, state, generator)
            outputs.append(x)
            last_states.append(last_state)
        undropped = torch.stack(outputs).sum(0) if self.sum_layers else x
        features = dropout(undropped, rates.output, generator, locked=rates.locked)
        return StackOutput(features, undropped, tuple(last_states))
