"""Mogrifier and RLSTM agree with plain NumPy, have the published sizes, and stay in bounds."""

from typing import Any

import numpy as np
import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model, make_cell
from ptblm.model.cells.cell import Cell
from ptblm.model.cells.mogrifier import MogrifierCell
from ptblm.model.cells.rlstm import RLSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.layers.recurrent import RecurrentLayer

Array = np.ndarray[Any, np.dtype[np.float64]]

OPTIONS: list[dict[str, Any]] = [
    {"type": "mogrifier"},
    {"type": "mogrifier", "rounds": 4, "rank": 2, "forget_bias": 1.0},
    {"type": "mogrifier", "rounds": 1, "cap_input_gate": True},
    {"type": "rlstm"},
    {"type": "rlstm", "rounds": 3, "forget_bias": 1.0},
    {"type": "rlstm", "rounds": 2, "rank": 3},
]
# A dropout mask of the hidden state, [B, H].
MASK = torch.tensor([[2.0, 0.0, 2.0], [0.0, 2.0, 2.0]], dtype=torch.float64)


def cell_of(options: dict[str, Any], input_size: int = 4, hidden_size: int = 3) -> Cell:
    """A cell in float64 whose parameters, the biases included, are all random."""
    cell = make_cell(ModelConfig.model_validate({"cell": options}), input_size, hidden_size)
    generator = torch.Generator().manual_seed(1)
    for parameter in cell.double().parameters():
        torch.nn.init.uniform_(parameter, -1, 1, generator)
    return cell


def inputs_of(cell: Cell, steps: int = 5, batch: int = 2) -> tuple[torch.Tensor, ...]:
    """Inputs of all time steps, h and c."""
    generator = torch.Generator().manual_seed(2)
    shapes = [(steps, batch, cell.input_size), *[(batch, cell.hidden_size)] * 2]
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def mogrify(
    w: dict[str, Array], x: Array, h: Array, rounds: int, rank: int | None
) -> tuple[Array, Array]:
    """Rounds of single vectors, as in equations 1 and 2 of Melis et al. 2020."""
    for k in range(rounds):
        if rank is None:
            matrix = w[f"rounds.{k}"]
        else:
            matrix = w[f"rounds.{2 * k}"] @ w[f"rounds.{2 * k + 1}"]
        if k % 2 == 0:
            x = 2 * sigmoid(matrix @ h) * x
        else:
            h = 2 * sigmoid(matrix @ x) * h
    return x, h


def lstm_step(
    w: dict[str, Array], x: Array, h: Array, c: Array, _: Array, options: dict[str, Any]
) -> tuple[Array, Array]:
    total = w["lstm.gates.weight_ih"] @ x + w["lstm.gates.weight_hh"] @ h + w["lstm.gates.bias"]
    i, f, j, o = np.split(total, 4)
    i, f = sigmoid(i), sigmoid(f + options.get("forget_bias", 0))
    if options.get("cap_input_gate"):
        i = np.where(i < 1 - f, i, 1 - f)
    c = f * c + i * np.tanh(j)
    return sigmoid(o) * np.tanh(c), c


def rlstm_step(
    w: dict[str, Array], x: Array, h: Array, c: Array, mask: Array, options: dict[str, Any]
) -> tuple[Array, Array]:
    i, j = np.split(w["gates.weight_ih"] @ x + w["gates.weight_hh"] @ h + w["gates.bias"], 2)
    i, j = sigmoid(i), np.tanh(j)
    total = w["forget.weight_ih"] @ (i * j) + w["forget.weight_hh"] @ h + w["forget.bias"]
    f = sigmoid(total + options.get("forget_bias", 0))
    c = f * c + np.where(i < 1 - f, i, 1 - f) * j
    return sigmoid(w["output.weight"] @ (mask * c) + w["output.bias"]) * np.tanh(c), c


@pytest.mark.parametrize("masked", [False, True], ids=["", "state dropout"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cells_match_plain_numpy(options: dict[str, Any], masked: bool) -> None:
    """State dropout masks h before the rounds, and the input of the output gate of an RLSTM."""
    cell = cell_of(options)
    w = {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}
    step = lstm_step if options["type"] == "mogrifier" else rlstm_step
    rounds = options.get("rounds", 5 if options["type"] == "mogrifier" else 0)
    x, h, c = inputs_of(cell)
    with torch.no_grad():
        outputs, last = RecurrentLayer(cell)(x, (h, c), MASK if masked else None)
    masks = MASK.numpy() if masked else np.ones((2, 3))
    for row in range(2):
        h_row, c_row = h[row].numpy(), c[row].numpy()
        for t in range(len(x)):
            dropped = masks[row] * h_row
            gated = mogrify(w, x[t, row].numpy(), dropped, rounds, options.get("rank"))
            h_row, c_row = step(w, *gated, c_row, masks[row], options)
            np.testing.assert_allclose(outputs[t, row], h_row, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last[0][row], h_row, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last[1][row], c_row, rtol=1e-12, atol=1e-14)


def test_mogrifier_without_rounds_is_an_lstm() -> None:
    mogrifier, lstm = cell_of({"type": "mogrifier", "rounds": 0}), cell_of({"type": "lstm"})
    x, *state = inputs_of(lstm)
    ours, theirs = (RecurrentLayer(c)(x, tuple(state)) for c in (mogrifier, lstm))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["mogrifier", "rlstm"])
def test_gradients_with_state_dropout_match_finite_differences(name: str) -> None:
    cell = cell_of({"type": name, "rounds": 2, "rank": 2})
    leaves = [part.requires_grad_() for part in (*inputs_of(cell), *cell.parameters())]

    def results(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, *_: torch.Tensor) -> Any:
        outputs, last = RecurrentLayer(cell)(x, (h, c), MASK)
        return outputs, *last

    assert torch.autograd.gradcheck(results, leaves, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["mogrifier", "rlstm"])
def test_full_rank_equals_the_product_of_the_factors(name: str) -> None:
    low = cell_of({"type": name, "rounds": 5, "rank": 2})
    full = cell_of({"type": name, "rounds": 5})
    values = low.state_dict()
    factors = [values.pop(f"rounds.{k}") for k in range(10)]
    products = [left @ right for left, right in zip(factors[::2], factors[1::2], strict=True)]
    full.load_state_dict(values | {f"rounds.{k}": product for k, product in enumerate(products)})
    x, *state = inputs_of(low)
    ours, theirs = (RecurrentLayer(cell)(x, tuple(state)) for cell in (low, full))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "options", [{"type": "rlstm"}, {"type": "mogrifier", "cap_input_gate": True}], ids=str
)
def test_capped_memory_stays_within_one(options: dict[str, Any]) -> None:
    """|c| <= 1 from zeros with saturated gates; without the cap, c grows to the length."""
    bounds = []
    for chosen in (options, {"type": "mogrifier"}):
        cell = cell_of(chosen, hidden_size=20)
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.mul_(3)
            _, (_, c) = RecurrentLayer(cell)(10 * inputs_of(cell, 50)[0], cell.initial_state(2))
        bounds.append(c.abs().max().item())
    assert 0.9 < bounds[0] <= 1 + 1e-12
    assert bounds[1] > 1.5


@pytest.mark.parametrize(("cell", "parameters"), [("mogrifier", 23_977_360), ("rlstm", 23_978_832)])
def test_published_models_have_24_million_parameters(cell: str, parameters: int) -> None:
    """The published sizes: two layers, 5 rounds of rank 84, tied embeddings; 10,000 words.

    These are the largest numbers of units with at most 24 million parameters. An LSTM layer has
    8 H² + 4 H parameters, an RLSTM layer 7 H² + 4 H, and the rounds of a layer 5 · 84 · 2 H.
    """
    hidden_size = {"mogrifier": 912, "rlstm": 956}[cell]
    config = {"cell": {"type": cell, "rounds": 5, "rank": 84}, "tie_embeddings": True}
    config |= {"hidden_size": hidden_size, "num_layers": 2}
    with torch.device("meta"):
        model = build_model(ModelConfig.model_validate(config), 10_000)
    assert model.parameter_count() == parameters


@pytest.mark.parametrize("name", ["mogrifier", "rlstm"])
def test_chrono_steps_set_the_forget_bias(name: str) -> None:
    options = {"type": name, "chrono_steps": 20}
    cell = make_cell(ModelConfig.model_validate({"cell": options}), 4, 500)
    cell.initialize(Initializer("uniform", 0.1), torch.Generator().manual_seed(3))
    if name == "rlstm":
        forget = cell.get_parameter("forget.bias").detach()
        assert torch.equal(cell.get_parameter("gates.bias"), torch.zeros(1000))
    else:
        input_gate, forget, *_ = cell.get_parameter("lstm.gates.bias").detach().chunk(4)
        assert torch.equal(input_gate, -forget)
    steps = forget.exp()
    assert 1 <= steps.min() < 1.5
    assert 18.5 < steps.max() <= 19
    assert steps.mean().item() == pytest.approx(10, rel=0.1)


def test_factors_have_the_variance_of_lamb() -> None:
    """The standard deviation is (1 / (inputs · rank))^(1/4), from a variance of 1 / inputs."""
    cell = MogrifierCell(700, 200, rounds=2, rank=50)
    cell.initialize(Initializer("lecun_normal", 0.1), torch.Generator().manual_seed(4))
    factors = [factor.detach() for factor in cell.rounds]
    for inputs, left, right in zip([200, 700], factors[::2], factors[1::2], strict=True):
        std = (1 / (inputs * 50)) ** 0.25
        assert [left.std().item(), right.std().item()] == pytest.approx([std, std], rel=0.05)
        assert (left @ right).std().item() == pytest.approx(inputs**-0.5, rel=0.05)


@pytest.mark.parametrize("cell_class", [MogrifierCell, RLSTMCell])
def test_other_initializers_fill_each_factor(cell_class: type[MogrifierCell | RLSTMCell]) -> None:
    cell = cell_class(70, 20, rounds=2, rank=50)
    cell.initialize(Initializer("uniform", 0.1), torch.Generator().manual_seed(4))
    for factor in cell.rounds:
        assert factor.abs().max().item() == pytest.approx(0.1, rel=0.01)
