"""Builds the model that a config describes."""

import torch

from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.janet import JANETCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.mogrifier import MogrifierCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.custom_cell import load_cell_class
from ptblm.model.language_model import LanguageModel
from ptblm.model.recurrent import RecurrentLayer


def build_model(config: ModelConfig, vocab_size: int, *, plain: bool = False) -> LanguageModel:
    """The model of a config, its weights not yet set.

    Args:
        config: the model's section.
        vocab_size: words in the vocabulary.
        plain: whether to go without fused kernels.

    Raises:
        ConfigError: if the cell is one of the user's own and not usable.
    """
    embedding_size = config.embedding_size or config.hidden_size
    layers: list[RecurrentLayer] = []
    for _ in range(config.num_layers):
        input_size = layers[-1].cell.output_size if layers else embedding_size
        layers.append(
            RecurrentLayer(make_cell(config, input_size), config.initial_state, plain=plain)
        )
    return LanguageModel(vocab_size, embedding_size, layers, config.dropout)


def make_cell(config: ModelConfig, input_size: int) -> Cell:
    """The cell of a config, for inputs of `input_size` numbers.

    Raises:
        ConfigError: as `build_model` does.
    """
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
        case own:
            return _own_cell(own, input_size, size)


def _own_cell(name: str, input_size: int, hidden_size: int) -> Cell:
    """A cell of the user's, tried out on one step, so that mistakes show before training does."""
    cell_class = load_cell_class(name)
    try:
        cell = cell_class(input_size, hidden_size)
        with torch.no_grad():
            layer = RecurrentLayer(cell)
            start = layer.initial_state(2)
            outputs, last = layer(start[0].new_zeros(1, 2, input_size), start)
    except Exception as error:  # it is somebody's code: anything may happen
        raise ConfigError(
            f"model.cell: {name}({input_size}, {hidden_size}) failed: "
            f"{type(error).__name__}: {error}",
            hint=_PAGE,
        ) from error
    given = [tuple(part.shape[1:]) for part in (outputs[0], *last)]
    promised = [(size,) for size in (cell.output_size, *cell.state_sizes)]
    if given != promised:
        raise ConfigError(
            f"model.cell: {name} promises an output and state of {promised} numbers, and gives "
            f"{given}",
            hint=_PAGE,
        )
    return cell


_PAGE = "docs/your-own-cell.md says how a cell is written; --debug shows where this one failed"
