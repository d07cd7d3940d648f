"""Builds the model that a config describes."""

from collections.abc import Callable
from functools import partial

import torch

from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.cells.cell import Cell
from ptblm.model.cells.custom import load_cell_class
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.janet import JANETCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.mogrifier import MogrifierCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer


def build_model(config: ModelConfig, vocab_size: int, *, fused: bool = True) -> LanguageModel:
    """The model of a config, its weights not yet set.

    Args:
        config: the model's section.
        vocab_size: words in the vocabulary.
        fused: whether layers and head use fused kernels.

    Raises:
        ConfigError: if the cell is one of the user's own and not usable.
    """
    make = custom_cells(config) if is_custom_cell(config) else partial(make_cell, config)
    embedding_size = config.embedding_size or config.hidden_size
    layers: list[RecurrentLayer] = []
    for _ in range(config.num_layers):
        input_size = layers[-1].cell.output_size if layers else embedding_size
        layers.append(RecurrentLayer(make(input_size), config.initial_state, fused=fused))
    return LanguageModel(vocab_size, embedding_size, layers, config.dropout, fused=fused)


def is_custom_cell(config: ModelConfig) -> bool:
    """Whether the cell is one of the user's own."""
    return ":" in config.cell


def make_cell(config: ModelConfig, input_size: int) -> Cell:
    """A shipped cell, for inputs of `input_size` numbers."""
    size = config.hidden_size
    match config.cell:
        case "lstm":
            return LSTMCell(
                input_size,
                size,
                forget_bias=config.forget_bias,
                peepholes=config.peepholes,
                projection_size=config.projection_size,
                gate_activation=config.gate_activation,
                activation=config.activation,
            )
        case "rnn":
            return RNNCell(input_size, size, config.activation)
        case "gru":
            return GRUCell(
                input_size,
                size,
                reset_gate=config.reset_gate,
                gate_activation=config.gate_activation,
                activation=config.activation,
            )
        case "slstm":
            return SLSTMCell(input_size, size, forget_bias=config.forget_bias)
        case "janet":
            return JANETCell(
                input_size, size, beta=config.janet_beta, chrono_steps=config.chrono_steps
            )
        case "mogrifier":
            return MogrifierCell(
                input_size, size, rounds=config.mogrifier_rounds, forget_bias=config.forget_bias
            )
    raise ValueError(f"no cell is called {config.cell}")


def custom_cells(config: ModelConfig) -> Callable[[int], Cell]:
    """What makes cells of the user's own class, for inputs of a size.

    The first for each size is tried out, so that mistakes show before training does.

    Raises:
        ConfigError: if there is no such class; calling the result, if it does not work.
    """
    cell_class = load_cell_class(config.cell)
    tried: set[int] = set()

    def make(input_size: int) -> Cell:
        try:
            cell = cell_class(input_size, config.hidden_size)
            problem = None if input_size in tried else _problem(cell)
        except (Exception, SystemExit) as error:  # it is somebody's code: anything may happen
            problem = f"it failed: {type(error).__name__}: {error}"
            raise ConfigError(_complaint(config, input_size, problem), hint=_PAGE) from error
        if problem is not None:
            raise ConfigError(_complaint(config, input_size, problem), hint=_PAGE)
        tried.add(input_size)
        return cell

    return make


_PAGE = "docs/custom-cells.md says how a cell is written; --debug shows where this one failed"


def _complaint(config: ModelConfig, input_size: int, problem: str) -> str:
    return f"model.cell: {config.cell}({input_size}, {config.hidden_size}): {problem}"


@torch.no_grad()
def _problem(cell: Cell) -> str | None:
    """What is wrong with a cell, as far as two steps show it."""
    parameters = list(cell.parameters())
    if not parameters:
        return "it has no parameters to train"
    batch = 2
    x = parameters[0].new_zeros(2, batch, cell.input_size)
    state = cell.initial_state(batch)
    promised = [_look(part) for part in state]
    for step_input in cell.inputs(x).unbind(0):
        output, state = cell.step(step_input, state)
        if not isinstance(state, tuple):
            return f"step must return its state as a tuple, as in (h,), not {type(state).__name__}"
        if not all(isinstance(part, torch.Tensor) for part in (output, *state)):
            return "step must return tensors"
        if list(output.shape) != [batch, cell.output_size]:
            return (
                f"step must return outputs of [batch, {cell.output_size}], and for a batch of "
                f"{batch} returns {list(output.shape)}"
            )
        given = [_look(part) for part in state]
        if given != promised:
            return f"by its state_sizes the state is {promised}, but step returns {given}"
    return None


def _look(part: torch.Tensor) -> str:
    return f"{list(part.shape)} {str(part.dtype).removeprefix('torch.')}"
