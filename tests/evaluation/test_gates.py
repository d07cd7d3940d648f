"""Gates along a text: against the NumPy LSTM, and against what the gate does in each cell."""

from typing import Any

import numpy as np
import pytest
import torch

from ptblm.evaluation.gates import gate_maps, memory_gate
from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.janet import JANETCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.mogrifier import MogrifierCell
from ptblm.model.cells.rlstm import RLSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.cells.sru import SRUCell
from ptblm.model.initializers import Initializer
from ptblm.reference.lstm import lstm_step
from tests.evaluation.small_models import random_ids, small_model

UNITS = 4
NOTHING = np.zeros(0, dtype=np.int64)


def in_order(maps: list) -> list[np.ndarray]:  # type: ignore[type-arg]
    """The activations of each layer, [T, H], by number of the unit."""
    return [np.array(each.values)[:, np.argsort(each.units)] for each in maps]


def test_lstm_gates_equal_the_numpy_reference() -> None:
    model = small_model(cell={"type": "lstm"})
    ids = random_ids(12).numpy()
    found = gate_maps(model, ids[:5], ids[5:])
    assert [(each.layer, each.gate) for each in found] == [(1, "forget"), (2, "forget")]
    x: Any = model.embedding.get_parameter("weight").detach().numpy()[ids]  # [T, H]
    for layer, values in zip(model.recurrent.layers, in_order(found), strict=True):
        affine: Any = layer.cell.gates
        weight = torch.cat([affine.weight_ih, affine.weight_hh], dim=1)
        i, f, j, o = weight.chunk(4)  # TensorFlow and the reference use the order i, j, f, o
        kernel = torch.cat([i, j, f, o]).t().detach().numpy()
        i, f, j, o = affine.bias.chunk(4)
        bias = torch.cat([i, j, f, o]).detach().numpy()
        h: Any = np.zeros((1, UNITS))
        c: Any = h
        outputs, gates = [], []
        for row in x:
            h, c, step = lstm_step(row[None], h, c, kernel, bias)
            outputs.append(h[0])
            gates.append(step.f[0])
        x = np.array(outputs)
        np.testing.assert_allclose(values, gates[5:], rtol=1e-12)


def make(cell: Cell) -> Cell:
    cell.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(3))
    for parameter in cell.parameters():  # biases and peepholes too
        torch.nn.init.uniform_(parameter, -1, 1, torch.Generator().manual_seed(4))
    return cell.double()


def step_input(cell: Cell) -> torch.Tensor:
    x = torch.randn(1, 1, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return cell.inputs(x)[0]


def state_of(cell: Cell) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(6)
    return tuple(
        torch.randn(1, size, generator=generator, dtype=torch.float64) for size in cell.state_sizes
    )


@pytest.mark.parametrize(
    "cell",
    [
        LSTMCell(3, UNITS, forget_bias=0.7),
        LSTMCell(3, UNITS, gate_activation="hard_sigmoid"),
        LSTMCell(3, UNITS, projection_size=2, cap_input_gate=True),
        MogrifierCell(3, UNITS, forget_bias=0.3),
        RLSTMCell(3, UNITS, forget_bias=0.3),
        RLSTMCell(3, UNITS, rounds=2),
        SLSTMCell(3, UNITS, forget_bias=0.4),
        SRUCell(3, UNITS),
    ],
    ids=lambda cell: type(cell).__name__,
)
@torch.no_grad()
def test_gate_is_the_share_of_the_memory_that_is_kept(cell: Cell) -> None:
    """These gates do not depend on c, so that adding 1 to c adds the gate to the next c."""
    cell = make(cell)
    x, state = step_input(cell), state_of(cell)
    gate = memory_gate(cell, x, state)
    assert gate is not None
    *_, c = cell.step(x, state)[1]
    *_, more = cell.step(x, (*state[:-1], state[-1] + 1))[1]
    torch.testing.assert_close(gate.activation, more - c, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (GRUCell(3, UNITS), "update"),
        (GRUCell(3, UNITS, reset_gate="before"), "update"),
        (GRUCell(3, UNITS, gate_activation="hard_sigmoid"), "update"),
        (JANETCell(3, UNITS), "forget"),
        (LSTMCell(3, UNITS, peepholes=True), "forget"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
@torch.no_grad()
def test_gate_multiplies_the_memory_without_a_candidate(cell: Any, name: str) -> None:
    """These gates depend on the memory. With a candidate of 0, they are all that changes it."""
    cell = make(cell)
    start = UNITS if isinstance(cell, JANETCell) else 2 * UNITS
    for parameter in (cell.gates.weight_ih, cell.gates.weight_hh, cell.gates.bias):
        parameter[start : start + UNITS] = 0
    if getattr(cell, "candidate_bias", None) is not None:
        cell.candidate_bias.zero_()
    x, state = step_input(cell), state_of(cell)
    gate = memory_gate(cell, x, state)
    assert gate is not None
    assert gate.name == name
    *_, memory = cell.step(x, state)[1]
    torch.testing.assert_close(gate.activation, memory / state[-1], rtol=1e-9, atol=1e-12)


def test_cells_with_unknown_equations_have_no_gate() -> None:
    class OtherCell(LSTMCell):
        """May define other equations."""

    for cell in (RNNCell(3, UNITS), OtherCell(3, UNITS)):
        assert memory_gate(cell, step_input(make(cell)), state_of(cell)) is None
    assert gate_maps(small_model(cell={"type": "rnn"}), NOTHING, random_ids(9).numpy()) == []


def test_gates_continue_the_state_of_the_text() -> None:
    model, ids = small_model(cell={"type": "gru"}), random_ids(20).numpy()
    whole = in_order(gate_maps(model, NOTHING, ids))
    rest = in_order(gate_maps(model, ids[:11], ids[11:]))
    for one, other in zip(whole, rest, strict=True):
        np.testing.assert_allclose(one[11:], other, rtol=1e-12)


def test_units_that_vary_most_come_first() -> None:
    model, ids = small_model(), random_ids(20).numpy()
    for all_units, some in zip(
        gate_maps(model, NOTHING, ids), gate_maps(model, NOTHING, ids, units=2), strict=True
    ):
        variances = np.var(all_units.values, axis=0)
        assert (np.diff(variances) <= 0).all()
        assert some.units == all_units.units[:2]
        np.testing.assert_array_equal(some.values, np.array(all_units.values)[:, :2])
