"""Recognizes the language models of two public programs by their parameters, and converts them.

                      word_language_model (PyTorch's examples)    AWD-LSTM
    embedding         encoder.weight                              encoder.weight
    layer N           rnn.weight_ih_lN, ...                       rnns.N.module.weight_ih_l0, ...
    softmax           decoder.weight, decoder.bias                decoder.weight, decoder.bias

neural-complexity, and the models of Gulordava et al. (2018), use the first. AWD-LSTM adds "_raw" to
the name of the weights that its weight dropout changes; a parameter without it is what the last
training step happened to use.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from ptblm.config.cells import CellConfig, GRUConfig, LSTMConfig, RNNConfig
from ptblm.config.dropout import DropoutConfig
from ptblm.config.model import ModelConfig
from ptblm.model.interop.pytorch import from_pytorch_cell
from ptblm.model.language_model import LanguageModel

Kind = Literal["examples", "awd"]

_LARGEST_SIZE, _MOST_LAYERS = 1_000_000, 1000  # of a config
_PARTS = "weight_ih|weight_hh|bias_ih|bias_hh"
_PATTERNS: dict[Kind, re.Pattern[str]] = {
    "examples": re.compile(rf"rnn\.(?P<part>{_PARTS})_l(?P<layer>\d{{1,4}})"),
    "awd": re.compile(rf"rnns\.(?P<layer>\d{{1,4}})\.(?:module\.)?(?P<part>{_PARTS})_l0(?:_raw)?"),
}
# Keys of `model.dropout`, and the attributes that contain their values in AWD-LSTM.
_AWD_DROPOUT = {
    "input": "dropouti",
    "between": "dropouth",
    "output": "dropout",
    "embedding": "dropoute",
    "recurrent_weights": "rnns.0.dropout",
}
_AROUND = {"encoder.weight", "decoder.weight", "decoder.bias"}


class UnsupportedModelError(ValueError):
    """The parameters are not those of a supported model; the message names the difference."""


@dataclass(frozen=True)
class ForeignModel:
    """The structure of a saved model.

    Attributes:
        kind: the program, see the module.
        config: the config of the equivalent model.
        vocab_size: V.
        layers: for each layer, the names of its parameters by what they are ("weight_ih", ...).
        has_output_bias: whether the softmax has a bias.
        notes: what the file does not tell, one line each.
    """

    kind: Kind
    config: ModelConfig
    vocab_size: int
    layers: list[dict[str, str]]
    has_output_bias: bool
    notes: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Returns the names of all parameters that the model needs."""
        absent = set() if self.has_output_bias else {"decoder.bias"}
        if self.config.tie_embeddings:
            absent.add("decoder.weight")
        return [
            *sorted(_AROUND - absent),
            *(name for layer in self.layers for name in layer.values()),
        ]


def recognize(
    shapes: Mapping[str, Sequence[int]],
    attributes: Mapping[str, Any],
    kind: Kind | None = None,
    *,
    is_tied: bool = False,
) -> ForeignModel:
    """Returns the structure of a saved model.

    Args:
        shapes: shape of each parameter, by its name.
        attributes: other values, such as "rnn.mode"; empty if only the parameters were saved.
        kind: the program; None to tell it from the names.
        is_tied: whether embedding and softmax share their weights.

    Raises:
        UnsupportedModelError: if the parameters are not those of a supported model.
    """
    kind = kind or ("awd" if any(name.startswith("rnns.") for name in shapes) else "examples")
    layers = _layers(shapes, kind)
    vocab_size, embedding_size = _matrix(shapes, "encoder.weight")
    sizes: list[int] = []
    rows_per_unit: set[int] = set()
    for index, names in enumerate(layers):
        for part in ("weight_ih", "weight_hh"):
            if part not in names:
                raise UnsupportedModelError(f"layer {index} has no {part}")
        rows, units = _matrix(shapes, names["weight_hh"])
        below = sizes[-1] if sizes else embedding_size
        _check_shape(shapes, names["weight_ih"], [rows, below])
        for part in ("bias_ih", "bias_hh"):
            if part in names:
                _check_shape(shapes, names[part], [rows])
        rows_per_unit.add(rows // units if rows % units == 0 else 0)
        sizes.append(units)
    _check_shape(shapes, "decoder.weight", [vocab_size, sizes[-1]])
    if "decoder.bias" in shapes:
        _check_shape(shapes, "decoder.bias", [vocab_size])
    cell, notes = _cell(rows_per_unit, attributes)
    if is_tied:
        notes = [*notes, "embedding and softmax share their weights, as model.tie_embeddings"]
    config = ModelConfig(
        cell=cell,
        hidden_size=max(sizes),
        embedding_size=None if embedding_size == max(sizes) else embedding_size,
        num_layers=len(sizes),
        layer_sizes=None if len(set(sizes)) == 1 else sizes,
        tie_embeddings=is_tied,
        dropout=_dropout(kind, attributes),
    )
    return ForeignModel(kind, config, vocab_size, layers, "decoder.bias" in shapes, notes)


def convert(
    foreign: ForeignModel, model: LanguageModel, read: Callable[[str], Tensor]
) -> dict[str, Tensor]:
    """Returns the weights of a saved model as the `state_dict` of a model of ptblm.

    Args:
        foreign: the structure of the saved model.
        model: a model with the config `foreign.config`, which can be on the meta device.
        read: returns the fp32 tensor of a parameter, by its name.
    """
    table = read("encoder.weight")
    has_bias = foreign.has_output_bias
    state = {
        "embedding.weight": table,
        "head.bias": read("decoder.bias") if has_bias else table.new_zeros(len(table)),
    }
    if not foreign.config.tie_embeddings:
        state["head.weight"] = read("decoder.weight")
    for index, names in enumerate(foreign.layers):
        cell = model.recurrent.layers[index].cell
        weights = {part: read(name) for part, name in names.items()}
        for name, tensor in from_pytorch_cell(cell, weights).items():
            state[f"recurrent.layers.{index}.cell.{name}"] = tensor
    return state


def _layers(shapes: Mapping[str, Sequence[int]], kind: Kind) -> list[dict[str, str]]:
    """Returns the names of the parameters of each layer."""
    found: dict[int, dict[str, str]] = {}
    for name in sorted(shapes, key=lambda name: name.endswith("_raw")):  # the last one counts
        if name in _AROUND:
            continue
        match = _PATTERNS[kind].fullmatch(name)
        if match is None:
            raise UnsupportedModelError(f"it has a parameter {name!r:.80}, which is unknown")
        found.setdefault(int(match["layer"]), {})[match["part"]] = name
    if not found:
        raise UnsupportedModelError("it has no recurrent layers")
    if sorted(found) != list(range(len(found))) or len(found) > _MOST_LAYERS:
        raise UnsupportedModelError(f"its layers have the numbers {sorted(found)[:20]}")
    return [found[index] for index in range(len(found))]


def _matrix(shapes: Mapping[str, Sequence[int]], name: str) -> tuple[int, int]:
    shape = list(shapes.get(name, []))
    if not shape:
        raise UnsupportedModelError(f"it has no {name}")
    if len(shape) != 2 or not 1 <= shape[1] <= _LARGEST_SIZE or shape[0] < 1:
        raise UnsupportedModelError(f"{name} has the shape {shape}")
    return shape[0], shape[1]


def _check_shape(shapes: Mapping[str, Sequence[int]], name: str, expected: list[int]) -> None:
    if name not in shapes:
        raise UnsupportedModelError(f"it has no {name}")
    if list(shapes[name]) != expected:
        raise UnsupportedModelError(f"{name} has the shape {list(shapes[name])}, not {expected}")


def _cell(rows_per_unit: set[int], attributes: Mapping[str, Any]) -> tuple[CellConfig, list[str]]:
    """Returns the config of the cell, and a note if the file does not tell its activation."""
    match sorted(rows_per_unit):
        case [4]:
            return LSTMConfig(), []
        case [3]:
            return GRUConfig(reset_gate="after"), []
        case [1]:
            names = [name for name in attributes if name == "mode" or name.endswith(".mode")]
            modes = {attributes[name] for name in names} | {attributes.get("rnn_type")}
            if "RNN_RELU" in modes:
                return RNNConfig(activation="relu"), []
            known = "RNN_TANH" in modes
            note = "the file does not tell the activation of the simple RNN; using tanh"
            return RNNConfig(activation="tanh"), [] if known else [note]
    raise UnsupportedModelError("its layers are not those of nn.LSTM, nn.GRU or nn.RNN")


def _dropout(kind: Kind, attributes: Mapping[str, Any]) -> DropoutConfig:
    """Returns the dropout probabilities of the saved model; 0 for those that are not saved."""

    def rate(name: str) -> float:
        value = attributes.get(name)
        return float(value) if isinstance(value, int | float) and 0 <= value < 1 else 0.0

    if kind == "examples":
        return DropoutConfig.everywhere(rate("drop.p"))
    rates = {key: rate(name) for key, name in _AWD_DROPOUT.items()}
    return DropoutConfig(locked=any(rates.values()), **rates)
