"""Builds a language model from its config, with a built-in or a custom cell."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from ptblm.config.cells import CustomCellConfig
from ptblm.config.heads import AdaptiveConfig, MixtureConfig, SoftmaxConfig
from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.cells.cell import Cell
from ptblm.model.cells.custom import load_cell_class
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.janet import JANETCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.mogrifier import MogrifierCell
from ptblm.model.cells.rlstm import RLSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.cells.sru import SRUCell
from ptblm.model.heads.adaptive import AdaptiveSoftmax
from ptblm.model.heads.head import Head
from ptblm.model.heads.mixture import Mixture
from ptblm.model.heads.softmax import Softmax
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.model.layers.weight_drop import recurrent_weights

_CELLS: dict[str, type[Cell]] = {
    "lstm": LSTMCell,
    "rnn": RNNCell,
    "gru": GRUCell,
    "slstm": SLSTMCell,
    "janet": JANETCell,
    "mogrifier": MogrifierCell,
    "rlstm": RLSTMCell,
    "sru": SRUCell,
}
_HINT = "see docs/custom-cells.md for how to write a cell; --debug prints the traceback"


def build_model(config: ModelConfig, vocab_size: int, *, fused: bool = True) -> LanguageModel:
    """Builds a language model with uninitialized weights.

    Args:
        config: model section of the config.
        vocab_size: number of tokens in the vocabulary.
        fused: whether layers and head use fused kernels.

    Raises:
        ConfigError: if a custom cell cannot be loaded or fails its test, or the sizes of the
            layers do not fit the config.
    """
    make = custom_cells(config) if is_custom_cell(config) else partial(make_cell, config)
    embedding_size = config.embedding_size or config.hidden_size
    layers: list[RecurrentLayer] = []
    for units in config.units:
        input_size = layers[-1].cell.output_size if layers else embedding_size
        cell = make(input_size, units)
        layers.append(RecurrentLayer(cell, config.initial_state, config.dropout, fused=fused))
    _check_dropout(config, layers)
    return assemble(config, vocab_size, layers, fused=fused)


def assemble(
    config: ModelConfig, vocab_size: int, layers: Sequence[RecurrentLayer], *, fused: bool = True
) -> LanguageModel:
    """Builds a language model around recurrent layers.

    Args:
        config: model section of the config.
        vocab_size: number of tokens in the vocabulary.
        layers: recurrent layers, from the lowest to the highest.
        fused: whether the head uses a fused kernel.

    Raises:
        ConfigError: if the sizes of the layers or of the vocabulary do not fit the config.
    """
    problem = config.size_problem([layer.cell.output_size for layer in layers])
    if problem is not None:
        key, message = problem
        raise ConfigError(f"model.{key}: {message}")
    num_features = config.output_projection or layers[-1].cell.output_size
    return LanguageModel(
        vocab_size,
        config.embedding_size or config.hidden_size,
        layers,
        config.dropout,
        head=make_head(config, num_features, vocab_size, fused=fused),
        output_projection=config.output_projection,
        sum_layers=config.sum_layers,
        tie_embeddings=config.tie_embeddings,
    )


def make_head(
    config: ModelConfig, num_features: int, vocab_size: int, *, fused: bool = True
) -> Head:
    """Returns the head with uninitialized weights.

    Args:
        config: model section of the config.
        num_features: size of the input of the head.
        vocab_size: number of tokens in the vocabulary.
        fused: whether the head uses a fused kernel.

    Raises:
        ConfigError: if the cutoffs of an adaptive softmax do not fit the vocabulary.
    """
    match config.head:
        case SoftmaxConfig():
            return Softmax(num_features, vocab_size, fused=fused)
        case MixtureConfig(components=components, dropout=dropout):
            embedding_size = config.embedding_size or config.hidden_size
            return Mixture(
                num_features,
                vocab_size,
                embedding_size if config.tie_embeddings else num_features,
                components=components,
                dropout=dropout,
                fused=fused,
            )
        case AdaptiveConfig(div_value=div_value):
            cutoffs = config.head.cutoffs_for(vocab_size)
            if cutoffs and cutoffs[-1] >= vocab_size:
                raise ConfigError(
                    "model.head.cutoffs: must be less than the size of the vocabulary, "
                    f"{vocab_size:,}, got {cutoffs[-1]:,}",
                    hint="omit model.head.cutoffs to choose them by the size of the vocabulary",
                )
            return AdaptiveSoftmax(num_features, vocab_size, cutoffs, div_value, fused=fused)


def _check_dropout(config: ModelConfig, layers: Sequence[RecurrentLayer]) -> None:
    """Raises ConfigError if the cell does not support the dropout of recurrent connections."""
    name = config.cell.type
    if config.dropout.recurrent_weights and not recurrent_weights(layers[0]):
        raise ConfigError(
            f"model.dropout.recurrent_weights: {name} has no weights of the hidden state",
            hint="set it to 0; in a custom cell, use Affine for these weights",
        )
    if config.dropout.recurrent_state and layers[0].cell.remembers_in_output:
        raise ConfigError(
            f"model.dropout.recurrent_state: {name} keeps its memory in the hidden state, which "
            "dropout would erase",
            hint="use model.dropout.recurrent_weights, or another cell",
        )


def is_custom_cell(config: ModelConfig) -> bool:
    """Returns whether the cell is a custom cell."""
    return isinstance(config.cell, CustomCellConfig)


def make_cell(config: ModelConfig, input_size: int, hidden_size: int) -> Cell:
    """Returns a built-in cell with the options of the config."""
    return _CELLS[config.cell.type](input_size, hidden_size, **config.cell.options)


def custom_cells(config: ModelConfig) -> Callable[[int, int], Cell]:
    """Returns a function that takes the input size and the hidden size and returns a custom cell.

    The first cell of each pair of sizes is tested for two time steps, so that errors are found
    before training. The function raises ConfigError if the class does not accept an option or the
    cell fails the test.

    Raises:
        ConfigError: if the class cannot be loaded.
    """
    name, options = config.cell.type, config.cell.options
    cell_class = load_cell_class(name)
    checked: set[tuple[int, int]] = set()

    def make(input_size: int, hidden_size: int) -> Cell:
        arguments = [str(input_size), str(hidden_size)]
        arguments += [f"{key}={value!r}" for key, value in options.items()]
        call = f"model.cell: {name}({', '.join(arguments)})"
        try:
            _check_options(cell_class, name, options)
            cell = cell_class(input_size, hidden_size, **options)
            problem = None if (input_size, hidden_size) in checked else _problem(cell)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:  # user code can raise any exception
            message = f"{call} failed with {type(error).__name__}: {error}"
            raise ConfigError(message, hint=_HINT) from error
        if problem is not None:
            raise ConfigError(f"{call}: {problem}", hint=_HINT)
        checked.add((input_size, hidden_size))
        return cell

    return make


def _check_options(cell_class: type[Cell], name: str, options: Mapping[str, object]) -> None:
    """Raises ConfigError if the class does not accept one of the options."""
    parameters = list(inspect.signature(cell_class).parameters.values())
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    # The first two are input_size and hidden_size.
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [parameter.name for parameter in parameters[2:] if parameter.kind in keywords]
    unknown = [key for key in options if key not in known]
    if not unknown:
        return
    nearest = difflib.get_close_matches(unknown[0], known, n=1)
    guess = f", did you mean '{nearest[0]}'?" if nearest else ""
    raise ConfigError(
        f"model.cell.{unknown[0]}: {name} does not accept the option '{unknown[0]}'{guess}",
        hint=f"its options are {', '.join(known)}" if known else f"{name} has no options",
    )


@torch.no_grad()
def _problem(cell: Cell) -> str | None:
    """Runs two time steps and returns a description of the problem, or None."""
    parameters = list(cell.parameters())
    if not parameters:
        return "the cell has no parameters"
    batch = 2
    x = parameters[0].new_zeros(2, batch, cell.input_size)
    state = cell.initial_state(batch)
    expected = [_describe(part) for part in state]
    for step_input in cell.inputs(x).unbind(0):
        output, state = cell.step(step_input, state)
        if not isinstance(state, tuple):
            return f"step must return the state as a tuple such as (h,), not {type(state).__name__}"
        if not all(isinstance(part, torch.Tensor) for part in (output, *state)):
            return "step must return the output and all parts of the state as tensors"
        if list(output.shape) != [batch, cell.output_size]:
            return (
                f"step must return an output of shape [batch, {cell.output_size}], but for a "
                f"batch of {batch} it returned {list(output.shape)}"
            )
        found = [_describe(part) for part in state]
        if found != expected:
            return f"the initial state is {expected}, but step returns {found}"
    return None


def _describe(part: torch.Tensor) -> str:
    """Returns the shape and data type as text, such as "[2, 16] float32"."""
    return f"{list(part.shape)} {str(part.dtype).removeprefix('torch.')}"
