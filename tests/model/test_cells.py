"""The cells: equal to TensorFlow's and Keras's, to their own equations, to the fused kernels."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from ptblm.config.model import ModelConfig
from ptblm.model.build import make_cell
from ptblm.model.cells.cell import Cell
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.janet import JANETCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.interop.cells import (
    load_keras_cell,
    load_tensorflow_cell,
    to_keras_cell,
    to_tensorflow_cell,
)
from ptblm.model.kernels import fused as fused_module
from ptblm.model.layers.recurrent import RecurrentLayer

GOLDEN = Path(__file__).parents[1] / "golden"

# What TensorFlow made the figures with, and our cell for it.
THEIR_CELLS: dict[str, Callable[[], Cell]] = {
    "tf1_basic_rnn": lambda: RNNCell(4, 5),
    "tf1_basic_lstm": lambda: LSTMCell(4, 5, forget_bias=1.0),
    "tf1_basic_lstm_fb0": lambda: LSTMCell(4, 5),
    "tf1_lstm": lambda: LSTMCell(4, 5, forget_bias=1.0),
    "tf1_lstm_peephole": lambda: LSTMCell(4, 5, forget_bias=1.0, peepholes=True),
    "tf1_lstm_proj": lambda: LSTMCell(4, 5, forget_bias=1.0, projection_size=3),
    "tf1_lstm_peephole_proj": lambda: LSTMCell(
        4, 5, forget_bias=1.0, peepholes=True, projection_size=3
    ),
    "tf1_gru": lambda: GRUCell(4, 5, reset_gate="before"),
    "keras_simple_rnn": lambda: RNNCell(4, 5),
    "keras_lstm_sigmoid": lambda: LSTMCell(4, 5),
    "keras_lstm_sigmoid_no_unit_forget": lambda: LSTMCell(4, 5),
    "keras_lstm_hard_sigmoid": lambda: LSTMCell(4, 5, gate_activation="hard_sigmoid"),
    "keras_gru_reset_after": lambda: GRUCell(4, 5, reset_gate="after"),
    "keras_gru_reset_before": lambda: GRUCell(4, 5, reset_gate="before"),
}

# Ours, each with every option that changes its equations.
OUR_CELLS: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn"},
    "rnn, relu": {"cell": "rnn", "activation": "relu"},
    "rnn, linear": {"cell": "rnn", "activation": "linear"},
    "lstm": {"cell": "lstm", "forget_bias": 1.0},
    "lstm, peepholes": {"cell": "lstm", "peepholes": True},
    "lstm, projection": {"cell": "lstm", "projection_size": 2},
    "lstm, peepholes, projection": {"cell": "lstm", "peepholes": True, "projection_size": 2},
    "lstm, hard_sigmoid": {"cell": "lstm", "gate_activation": "hard_sigmoid"},
    "lstm, linear": {"cell": "lstm", "activation": "linear"},
    "gru, before": {"cell": "gru", "reset_gate": "before"},
    "gru, after": {"cell": "gru", "reset_gate": "after"},
    "gru, hard_sigmoid": {"cell": "gru", "gate_activation": "hard_sigmoid"},
    "slstm": {"cell": "slstm", "forget_bias": 1.0},
    "janet": {"cell": "janet"},
    "janet, chrono": {"cell": "janet", "chrono_steps": 20, "beta": 0.5},
    "mogrifier": {"cell": "mogrifier"},
    "mogrifier, 2 rounds": {"cell": "mogrifier", "rounds": 2, "forget_bias": 1.0},
}


def load_golden(name: str) -> dict[str, Any]:
    with np.load(GOLDEN / name) as arrays:
        return dict(arrays)


def cell_config(options: dict[str, Any]) -> Any:
    """The options of a cell, with its name under "cell", as the config has them."""
    return {"type": options["cell"], **{k: v for k, v in options.items() if k != "cell"}}


def make_layer(
    *,
    plain: bool = True,
    kind: Any = "uniform",
    initial_state: Any = "zeros",
    size: int = 3,
    **options: Any,
) -> RecurrentLayer:
    cell = make_cell(ModelConfig(hidden_size=size, cell=cell_config(options)), input_size=4)
    layer = RecurrentLayer(cell, initial_state, plain=plain).double()
    layer.initialize(Initializer(kind, 0.7), torch.Generator().manual_seed(5))
    return layer


def run(layer: RecurrentLayer, steps: int = 6, batch: int = 2) -> tuple[Tensor, ...]:
    """Outputs, last state, and the gradient of the outputs' squares with respect to all."""
    generator = torch.Generator().manual_seed(6)
    shapes = [(steps, batch, 4), *[(batch, size) for size in layer.cell.state_sizes]]
    dtype = next(layer.parameters()).dtype
    x, *state = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    )
    outputs, last = layer(x, tuple(state))
    # The last state's part lets a state that is wrong only at the end be seen, too.
    cost = outputs.square().sum() + sum(part.sum() for part in last)
    wanted = [x, *state, *layer.cell.parameters()]
    return outputs, *last, *torch.autograd.grad(cost, wanted)


@pytest.mark.parametrize("start", ["zero", "rand"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "fused"])
@pytest.mark.parametrize("name", THEIR_CELLS)
def test_equals_tensorflows_and_kerass_cells(
    name: str, plain: bool, dtype: torch.dtype, tolerance: float, start: str
) -> None:
    """Outputs, states, and all gradients of sum(outputs²)."""
    golden = load_golden("cells.npz" if dtype == torch.float32 else "cells_f64.npz")
    theirs = {
        key.removeprefix(f"{name}/"): golden[key] for key in golden if key.startswith(f"{name}/")
    }
    cell = THEIR_CELLS[name]().to(dtype)
    layer = RecurrentLayer(cell, plain=plain)
    if not plain and layer.fused is None:
        pytest.skip("torch has no fused kernel for this cell")
    weights = {key.removeprefix("w/"): theirs[key] for key in theirs if key.startswith("w/")}
    load, to = (
        (load_tensorflow_cell, to_tensorflow_cell)
        if name.startswith("tf1")
        else (load_keras_cell, to_keras_cell)
    )
    load(cell, weights)

    x = torch.tensor(golden["input"], dtype=dtype).transpose(0, 1).contiguous().requires_grad_()
    parts = ["h0", "c0"][: len(cell.state_sizes)]
    state = tuple(
        torch.tensor(theirs[f"{start}/{part}"], dtype=dtype).requires_grad_() for part in parts
    )
    outputs, last = layer(x, state)
    parameters = dict(cell.named_parameters())
    x_gradient, *gradients = torch.autograd.grad(
        outputs.square().sum(), [x, *state, *parameters.values()]
    )
    state_gradients = gradients[: len(state)]
    weight_gradients = to(cell, dict(zip(parameters, gradients[len(state) :], strict=True)))
    if name == "keras_gru_reset_after":
        # Gates have two biases there and get the same gradient twice; ours have one.
        second = weight_gradients["bias"][1]
        weight_gradients["bias"][1] = np.where(second == 0, weight_gradients["bias"][0], second)

    def same(ours: Any, key: str) -> None:
        expected = theirs[f"{start}/{key}"]
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(
            np.asarray(ours), expected, rtol=tolerance, atol=tolerance * scale, err_msg=key
        )

    same(outputs.detach().transpose(0, 1), "outputs")
    same(x_gradient.transpose(0, 1), "grad/input")
    for index, part in enumerate(parts):
        same(state_gradients[index], f"grad/{part}")
        expected = theirs[f"{start}/states/{part[0]}"][:, -1]
        np.testing.assert_allclose(last[index].detach(), expected, rtol=tolerance, atol=tolerance)
    assert weight_gradients.keys() == weights.keys()
    for key, ours in weight_gradients.items():
        same(ours, f"grad/{key}")


def test_golden_figures_are_all_used() -> None:
    names = {key.split("/")[0] for key in load_golden("cells.npz")} - {"input"}
    assert names == THEIR_CELLS.keys()


@pytest.mark.parametrize("name", THEIR_CELLS)
def test_weights_survive_the_conversion_there_and_back(name: str) -> None:
    one, other = THEIR_CELLS[name](), THEIR_CELLS[name]()
    one.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(1))
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    if name.startswith("tf1"):
        load_tensorflow_cell(other, to_tensorflow_cell(one, one.state_dict()))
    else:
        load_keras_cell(other, to_keras_cell(one, one.state_dict()))
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("cell", "load"),
    [
        (SLSTMCell(4, 5), load_tensorflow_cell),
        (GRUCell(4, 5, reset_gate="after"), load_tensorflow_cell),
        (JANETCell(4, 5), load_keras_cell),
        (LSTMCell(4, 5, peepholes=True), load_keras_cell),
    ],
)
def test_cells_that_they_do_not_have_are_refused(cell: Cell, load: Any) -> None:
    weights = {name: np.zeros(1) for name in ("kernel", "recurrent_kernel", "bias")}
    with pytest.raises(TypeError, match="no cell like"):
        load(cell, weights)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        load_tensorflow_cell(LSTMCell(4, 5), {"kernel": np.zeros((9, 24)), "bias": np.zeros(24)})


def test_the_seven_vectors_of_tensorflows_lstm_cell() -> None:
    """LSTMCell(3) on 7 steps of 4 inputs, forget_bias 1, as TensorFlow printed its outputs."""
    source = np.random.RandomState(0)
    inputs = source.normal(size=(1, 7, 4))
    limit = math.sqrt(6 / (7 + 12))
    kernel = source.uniform(-limit, limit, size=(7, 12))
    expected = [
        [-0.2138602, -0.08401276, -0.25431478],
        [-0.22243595, -0.25817424, -0.16122109],
        [-0.22821338, -0.1420716, -0.35017252],
        [-0.23286738, -0.1712919, -0.27065122],
        [-0.1176867, -0.2071736, -0.13339119],
        [-0.05992149, -0.177561, -0.2028935],
        [0.11437953, -0.19484554, 0.05371996],
    ]
    cell = LSTMCell(4, 3, forget_bias=1.0)
    load_tensorflow_cell(cell, {"kernel": kernel, "bias": np.zeros(12)})
    x = torch.tensor(inputs, dtype=torch.float32).transpose(0, 1)
    for plain in (True, False):
        layer = RecurrentLayer(cell, plain=plain)
        with torch.no_grad():
            outputs, _ = layer(x, layer.initial_state(1))
        np.testing.assert_allclose(outputs.squeeze(1).numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OUR_CELLS)
def test_gradients_by_finite_differences(name: str) -> None:
    layer = make_layer(**OUR_CELLS[name])
    x = torch.randn(5, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    leaves = [x.requires_grad_()]
    leaves += [part.add(0.3).requires_grad_() for part in layer.initial_state(2)]
    parameters = list(layer.parameters())

    def cost(*values: Tensor) -> tuple[Tensor, ...]:
        outputs, last = layer(values[0], tuple(values[1 : len(leaves)]))
        return outputs, *last

    assert torch.autograd.gradcheck(cost, (*leaves, *parameters), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "size", "steps", "batch"),
    [(name, 3, 6, 2) for name in OUR_CELLS]
    + [("lstm", 1, 1, 1), ("lstm", 17, 5, 3), ("gru, after", 1, 1, 1), ("rnn", 17, 5, 3)],
)
def test_fused_kernels_equal_the_plain_steps(name: str, size: int, steps: int, batch: int) -> None:
    fused = make_layer(plain=False, size=size, **OUR_CELLS[name])
    if fused.fused is None:
        pytest.skip("torch has no fused kernel for this cell")
    plain = make_layer(plain=True, size=size, **OUR_CELLS[name])
    for dtype, forward, gradient in ((torch.float64, 1e-12, 1e-12), (torch.float32, 1e-6, 1e-5)):
        ours, theirs = (run(layer.to(dtype), steps, batch) for layer in (plain, fused))
        outputs = 1 + len(plain.cell.state_sizes)
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            tolerance = forward if index < outputs else gradient
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_torchs_kernels_compute_in_the_type_that_they_are_told(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA under autocast; here a CPU's kernels stand in, which know bf16 too."""
    exact = run(make_layer(plain=False, cell=cell, size=17).float())
    monkeypatch.setattr(fused_module, "_cuda_type", lambda _: torch.bfloat16)
    outputs, *others = run(make_layer(plain=False, cell=cell, size=17).float())
    assert outputs.dtype == torch.bfloat16
    assert {other.dtype for other in others} == {torch.float32}
    for found, wanted in zip((outputs, *others), exact, strict=True):
        error = (found - wanted).norm() / wanted.norm()
        assert 0 < error < 0.02


def test_which_cells_torch_has_kernels_for() -> None:
    fused = {name for name in OUR_CELLS if make_layer(plain=False, **OUR_CELLS[name]).fused}
    assert fused == {"rnn", "rnn, relu", "lstm", "gru, after"}


def test_a_subclass_with_its_own_equations_is_not_fused() -> None:
    class Own(LSTMCell):
        """Might do anything."""

    assert RecurrentLayer(Own(3, 4)).fused is None


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", ["lstm, peepholes", "gru, before", "janet", "mogrifier"])
def test_a_compiled_step_equals_the_plain_one(name: str) -> None:
    """The capture is what can go wrong here; what a GPU's compiler makes of it, there."""
    plain, compiled = (make_layer(**OUR_CELLS[name]) for _ in range(2))
    torch._dynamo.reset()  # or all cells of this process share one limit
    counters.clear()
    compiled.compile_steps(batch_size=2, backend="aot_eager")
    assert compiled.path == "step by step, compiled"
    for one, other in zip(run(plain), run(compiled), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_step_that_does_not_compile_stays_as_it_is() -> None:
    def refuse(*_: Any) -> Any:
        raise NotImplementedError

    plain, layer = (make_layer(cell="janet") for _ in range(2))
    layer.compile_steps(batch_size=2, backend=refuse)
    assert layer.path.startswith("step by step (not compiled: ")
    for one, other in zip(run(plain), run(layer), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", OUR_CELLS)
def test_the_state_is_all_that_a_cell_remembers(name: str) -> None:
    layer = make_layer(**OUR_CELLS[name])
    x = torch.randn(7, 2, 4, dtype=torch.float64)
    whole, last = layer(x, layer.initial_state(2))
    first, state = layer(x[:3], layer.initial_state(2))
    rest, cut_last = layer(x[3:], state)
    torch.testing.assert_close(torch.cat([first, rest]), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cut_last, last, rtol=1e-12, atol=1e-12)


def test_a_mogrifier_without_rounds_is_an_lstm() -> None:
    plain = make_layer(cell="lstm")
    mogrifier = make_layer(cell="mogrifier", rounds=0)
    for one, other in zip(run(plain), run(mogrifier), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_an_slstm_forgets_what_it_takes_in() -> None:
    """With f near 1 it keeps its state, with f near 0 it takes the candidate."""
    layer = make_layer(cell="slstm")
    x = torch.randn(1, 2, 4, dtype=torch.float64)
    state = tuple(part + 0.4 for part in layer.initial_state(2))
    with torch.no_grad():
        layer.cell.get_parameter("gates.bias")[:3] = 50.0
    torch.testing.assert_close(layer(x, state)[1][1], state[1])
    with torch.no_grad():
        layer.cell.get_parameter("gates.bias")[:3] = -50.0
        layer.cell.get_parameter("gates.bias")[3:] = 50.0
    torch.testing.assert_close(layer(x, state)[1][1], torch.ones_like(state[1]))


def test_janets_chrono_initialisation() -> None:
    cell = make_layer(cell="janet", chrono_steps=20, size=500).cell
    forget, candidate = cell.get_parameter("gates.bias").exp().chunk(2)
    assert forget.min() >= 1
    assert forget.max() <= 19
    assert forget.mean().item() == pytest.approx(10, rel=0.1)
    assert torch.equal(candidate, torch.ones_like(candidate))


def test_initialisers() -> None:
    """The limits of each, and what they leave alone."""
    weights = {
        kind: dict(make_layer(kind=kind, cell="lstm", size=40).cell.named_parameters())
        for kind in ("uniform", "glorot_uniform", "orthogonal")
    }
    assert weights["uniform"]["gates.weight_hh"].abs().max().item() == pytest.approx(0.7, rel=0.01)
    glorot = math.sqrt(6 / (4 + 40 + 160))  # one kernel of inputs and state, as in TensorFlow
    for name in ("gates.weight_ih", "gates.weight_hh"):
        largest = weights["glorot_uniform"][name].abs().max().item()
        assert largest == pytest.approx(glorot, rel=0.02)
    state = weights["orthogonal"]["gates.weight_hh"]
    torch.testing.assert_close(state.T @ state, torch.eye(40, dtype=torch.float64))
    inputs = weights["orthogonal"]["gates.weight_ih"].abs().max().item()
    assert inputs == pytest.approx(math.sqrt(6 / (4 + 160)), rel=0.02)
    assert all(w["gates.bias"].abs().max() == 0 for w in weights.values())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_initial_states(cell: str) -> None:
    for kind, value in (("zeros", 0.0), ("ones", 1.0), ("learned", 0.0)):
        layer = make_layer(cell=cell, initial_state=kind, plain=False)
        parts = layer.initial_state(2)
        assert [part.shape for part in parts] == [(2, size) for size in layer.cell.state_sizes]
        assert all(bool((part == value).all()) for part in parts)
        outputs, _ = layer(torch.zeros(2, 2, 4, dtype=torch.float64), parts)
        torch.autograd.backward(outputs.square().sum() + outputs.sum())
        learned = [parameter.grad for parameter in layer.learned_state]
        assert len(learned) == (len(parts) if kind == "learned" else 0)
        assert all(grad is not None and bool((grad != 0).all()) for grad in learned)
