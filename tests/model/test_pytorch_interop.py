"""The weights of PyTorch's recurrent layers, and the models of two programs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ptblm.config.cells import GRUConfig, LSTMConfig, RNNConfig
from ptblm.config.dropout import DropoutConfig
from ptblm.config.model import ModelConfig
from ptblm.model.build import make_cell
from ptblm.model.interop.pytorch import from_pytorch_cell
from ptblm.model.interop.pytorch_examples import UnsupportedModelError, recognize
from ptblm.model.layers.recurrent import RecurrentLayer

LAYERS: list[tuple[Any, Any, dict[str, Any]]] = [
    (LSTMConfig(), nn.LSTM, {}),
    (LSTMConfig(), nn.LSTM, {"bias": False}),
    (GRUConfig(), nn.GRU, {}),
    (GRUConfig(), nn.GRU, {"bias": False}),
    (RNNConfig(activation="tanh"), nn.RNN, {"nonlinearity": "tanh"}),
    (RNNConfig(activation="relu"), nn.RNN, {"nonlinearity": "relu"}),
]


@pytest.mark.parametrize(("cell_config", "kind", "options"), LAYERS)
@pytest.mark.parametrize("fused", [True, False])
def test_outputs_equal_those_of_the_layer(
    cell_config: Any, kind: Any, options: Any, fused: bool
) -> None:
    torch.manual_seed(1)
    theirs = kind(3, 5, **options)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    cell = make_cell(ModelConfig(cell=cell_config), 3, 5)
    weights: dict[str, Tensor] = dict(theirs.state_dict())
    named = {name.removesuffix("_l0"): tensor for name, tensor in weights.items()}
    cell.load_state_dict(from_pytorch_cell(cell, named))
    ours = RecurrentLayer(cell, fused=fused)
    x = torch.randn(7, 2, 3)
    with torch.no_grad():
        expected, last = theirs(x)
        found, state = ours(x, ours.initial_state(2))
    torch.testing.assert_close(found, expected)
    last = last if isinstance(last, tuple) else (last,)
    for part, expected_part in zip(state, last, strict=True):
        torch.testing.assert_close(part, expected_part[0])


@pytest.mark.parametrize(
    "config",
    [
        LSTMConfig(peepholes=True),
        LSTMConfig(projection_size=2),
        LSTMConfig(forget_bias=1.0),
        GRUConfig(reset_gate="before"),
    ],
)
def test_cells_without_an_equivalent_are_rejected(config: Any) -> None:
    cell = make_cell(ModelConfig(cell=config), 3, 5)
    weights = {"weight_ih": torch.zeros(20, 3), "weight_hh": torch.zeros(20, 5)}
    with pytest.raises(TypeError, match="PyTorch has no equivalent"):
        from_pytorch_cell(cell, weights)


def shapes_of(*sizes: int, prefix: str = "rnns.{}.", suffix: str = "_l0") -> dict[str, list[int]]:
    """The shapes of an LSTM with a vocabulary of 9 and an embedding of the last size."""
    shapes = {"encoder.weight": [9, sizes[-1]], "decoder.weight": [9, sizes[-1]]}
    below = sizes[-1]
    for index, size in enumerate(sizes):
        name = prefix.format(index)
        shapes |= {f"{name}weight_ih{suffix.format(index)}": [4 * size, below]}
        shapes |= {f"{name}weight_hh{suffix.format(index)}": [4 * size, size]}
        below = size
    return shapes


def test_sizes_of_the_layers_are_recognized() -> None:
    found = recognize(shapes_of(7, 6, 4), {})
    assert (found.kind, found.vocab_size) == ("awd", 9)
    assert found.config.layer_sizes == [7, 6, 4]
    assert (found.config.hidden_size, found.config.embedding_size) == (7, 4)
    found = recognize(shapes_of(4, 4, prefix="rnn.", suffix="_l{}"), {"drop.p": 0.3})
    assert found.kind == "examples"
    assert (found.config.layer_sizes, found.config.num_layers) == (None, 2)
    assert (found.config.hidden_size, found.config.embedding_size) == (4, None)
    assert found.config.dropout == DropoutConfig.everywhere(0.3)


def test_dropout_of_awd_lstm_is_recognized() -> None:
    """`module.dropout` is that of nn.LSTM, which has one layer and hence no dropout."""
    rates = {"dropouti": 0.4, "dropouth": 0.25, "dropout": 0.3, "dropoute": 0.1}
    saved = {**rates, "rnns.0.dropout": 0.5, "rnns.0.module.dropout": 0, "wdrop": "x"}
    expected = DropoutConfig(
        input=0.4, between=0.25, output=0.3, locked=True, embedding=0.1, recurrent_weights=0.5
    )
    assert recognize(shapes_of(4), saved).config.dropout == expected
    assert recognize(shapes_of(4), {}).config.dropout == DropoutConfig()
    bad = dict(zip(saved, [1, -1, 2.5, "0.5", None, True, True], strict=True))
    assert recognize(shapes_of(4), bad).config.dropout == DropoutConfig()


def test_raw_weights_have_priority() -> None:
    shapes = shapes_of(4)
    shapes["rnns.0.module.weight_hh_l0_raw"] = shapes["rnns.0.weight_hh_l0"]
    names = recognize(shapes, {}).names()
    assert "rnns.0.module.weight_hh_l0_raw" in names
    assert "rnns.0.weight_hh_l0" not in names


def test_names_of_another_program_are_rejected() -> None:
    with pytest.raises(UnsupportedModelError, match="has a parameter 'rnns"):
        recognize(shapes_of(4), {}, "examples")
    with pytest.raises(UnsupportedModelError, match="no recurrent layers"):
        recognize({"encoder.weight": [3, 3], "decoder.weight": [3, 3]}, {})
    upper = {name: s for name, s in shapes_of(4, 4).items() if not name.startswith("rnns.0")}
    with pytest.raises(UnsupportedModelError, match="its layers have the numbers"):
        recognize(upper, {})
    with pytest.raises(UnsupportedModelError, match="shape"):
        recognize({**shapes_of(4), "encoder.weight": [9, 2_000_000]}, {})
