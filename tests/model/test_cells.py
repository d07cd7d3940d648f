"""Cells agree with TensorFlow and Keras, with their own equations, and with the fused kernels."""

import math
from collections.abc import Callable
from functools import cache
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
from ptblm.model.cells.rlstm import RLSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.cells.sru import SRUCell
from ptblm.model.initializers import Initializer
from ptblm.model.interop.keras import load_keras_cell, to_keras_cell
from ptblm.model.interop.tensorflow import load_tensorflow_cell, to_tensorflow_cell
from ptblm.model.kernels import fused as fused_module
from ptblm.model.kernels.fused import fused_kernel
from ptblm.model.layers.recurrent import RecurrentLayer

GOLDEN = Path(__file__).parents[1] / "golden"

# Our equivalent of each TensorFlow and Keras cell in the golden files.
GOLDEN_CELLS: dict[str, Callable[[], Cell]] = {
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

# Every cell, with every option that changes its equations.
CELLS: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn"},
    "rnn, relu": {"cell": "rnn", "activation": "relu"},
    "rnn, linear": {"cell": "rnn", "activation": "linear"},
    "lstm": {"cell": "lstm", "forget_bias": 1.0},
    "lstm, peepholes": {"cell": "lstm", "peepholes": True},
    "lstm, projection": {"cell": "lstm", "projection_size": 2},
    "lstm, peepholes, projection": {"cell": "lstm", "peepholes": True, "projection_size": 2},
    "lstm, hard_sigmoid": {"cell": "lstm", "gate_activation": "hard_sigmoid"},
    "lstm, cap": {"cell": "lstm", "cap_input_gate": True, "chrono_steps": 20},
    "lstm, cap, peepholes": {"cell": "lstm", "cap_input_gate": True, "peepholes": True},
    "lstm, linear": {"cell": "lstm", "activation": "linear"},
    "gru, before": {"cell": "gru", "reset_gate": "before"},
    "gru, after": {"cell": "gru", "reset_gate": "after"},
    "gru, hard_sigmoid": {"cell": "gru", "gate_activation": "hard_sigmoid"},
    "slstm": {"cell": "slstm", "forget_bias": 1.0},
    "janet": {"cell": "janet"},
    "janet, chrono": {"cell": "janet", "chrono_steps": 20, "beta": 0.5},
    "mogrifier": {"cell": "mogrifier"},
    "mogrifier, 2 rounds": {"cell": "mogrifier", "rounds": 2, "forget_bias": 1.0},
    "mogrifier, rank": {"cell": "mogrifier", "rounds": 3, "rank": 2},
    "mogrifier, cap": {"cell": "mogrifier", "rounds": 1, "cap_input_gate": True},
    "rlstm": {"cell": "rlstm", "forget_bias": 0.5},
    "rlstm, rounds": {"cell": "rlstm", "rounds": 2, "rank": 2, "chrono_steps": 20},
    "sru": {"cell": "sru", "highway_bias": -1.0},
    "sru, equal sizes": {"cell": "sru", "size": 4},
}


@cache
def load_golden(name: str) -> dict[str, Any]:
    with np.load(GOLDEN / name) as arrays:
        return dict(arrays)


def cell_config(options: dict[str, Any]) -> Any:
    """The options of a cell, with its name under "cell", as the config has them."""
    return {"type": options["cell"], **{k: v for k, v in options.items() if k != "cell"}}


def make_layer(
    *,
    fused: bool = False,
    kind: Any = "uniform",
    initial_state: Any = "zeros",
    size: int = 3,
    **options: Any,
) -> RecurrentLayer:
    cell = make_cell(ModelConfig(cell=cell_config(options)), input_size=4, hidden_size=size)
    layer = RecurrentLayer(cell, initial_state, fused=fused).double()
    layer.initialize(Initializer(kind, 0.7), torch.Generator().manual_seed(5))
    return layer


def run(layer: RecurrentLayer, steps: int = 6, batch: int = 2) -> tuple[Tensor, ...]:
    """Outputs, last state, and the gradients of a cost with respect to all inputs and weights."""
    generator = torch.Generator().manual_seed(6)
    shapes = [(steps, batch, 4), *[(batch, size) for size in layer.cell.state_sizes]]
    dtype = next(layer.parameters()).dtype
    x, *state = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    )
    outputs, last = layer(x, tuple(state))
    # The cost includes the last state, to detect a state that is wrong only at the end.
    cost = outputs.square().sum() + sum(part.sum() for part in last)
    wanted = [x, *state, *layer.cell.parameters()]
    return outputs, *last, *torch.autograd.grad(cost, wanted)


@pytest.mark.parametrize("start", ["zero", "rand"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("name", GOLDEN_CELLS)
def test_cells_match_tensorflow_and_keras(
    name: str, fused: bool, dtype: torch.dtype, tolerance: float, start: str
) -> None:
    """Compares outputs, states, and all gradients of sum(outputs²)."""
    golden = load_golden("cells.npz" if dtype == torch.float32 else "cells_f64.npz")
    theirs = {
        key.removeprefix(f"{name}/"): golden[key] for key in golden if key.startswith(f"{name}/")
    }
    cell = GOLDEN_CELLS[name]().to(dtype)
    layer = RecurrentLayer(cell, fused=fused)
    if fused and layer.kernel != "fused":
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
        # Keras has two biases per gate, with the same gradient; we have one.
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


def test_all_golden_cells_are_tested() -> None:
    names = {key.split("/")[0] for key in load_golden("cells.npz")} - {"input"}
    assert names == GOLDEN_CELLS.keys()


@pytest.mark.parametrize("name", GOLDEN_CELLS)
def test_weight_conversion_round_trip(name: str) -> None:
    one, other = GOLDEN_CELLS[name](), GOLDEN_CELLS[name]()
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
        (RLSTMCell(4, 5), load_tensorflow_cell),
        (SRUCell(4, 5), load_keras_cell),
    ],
)
def test_converting_unsupported_cell_raises(cell: Cell, load: Any) -> None:
    weights = {name: np.zeros(1) for name in ("kernel", "recurrent_kernel", "bias")}
    with pytest.raises(TypeError, match="has no equivalent of"):
        load(cell, weights)


def test_converting_weights_of_wrong_shape_raises() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(20, 4\), got \(24, 4\)"):
        load_tensorflow_cell(LSTMCell(4, 5), {"kernel": np.zeros((9, 24)), "bias": np.zeros(24)})


def test_lstm_reproduces_printed_tensorflow_outputs() -> None:
    """The outputs that TensorFlow printed for LSTMCell(3), forget_bias 1, 7 steps of 4 inputs."""
    rng = np.random.RandomState(0)
    inputs = rng.normal(size=(1, 7, 4))
    limit = math.sqrt(6 / (7 + 12))
    kernel = rng.uniform(-limit, limit, size=(7, 12))
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
    for fused in (False, True):
        layer = RecurrentLayer(cell, fused=fused)
        with torch.no_grad():
            outputs, _ = layer(x, layer.initial_state(1))
        np.testing.assert_allclose(outputs.squeeze(1).numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_match_finite_differences(name: str) -> None:
    layer = make_layer(**CELLS[name])
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
    [(name, 3, 6, 2) for name in CELLS]
    + [("lstm", 1, 1, 1), ("lstm", 17, 5, 3), ("gru, after", 1, 1, 1), ("rnn", 17, 5, 3)]
    + [("sru", 1, 1, 1), ("sru", 17, 5, 3)],
)
def test_fused_kernels_match_step_by_step(name: str, size: int, steps: int, batch: int) -> None:
    options = {"size": size, **CELLS[name]}
    fused = make_layer(fused=True, **options)
    if fused.kernel != "fused":
        pytest.skip("there is no fused kernel for this cell")
    unfused = make_layer(fused=False, **options)
    for dtype, forward, gradient in ((torch.float64, 1e-12, 1e-12), (torch.float32, 1e-6, 1e-5)):
        ours, theirs = (run(layer.to(dtype), steps, batch) for layer in (unfused, fused))
        outputs = 1 + len(unfused.cell.state_sizes)
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            tolerance = forward if index < outputs else gradient
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_fused_kernels_compute_in_requested_dtype(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA under autocast; the CPU kernels used here also support bf16."""
    exact = run(make_layer(fused=True, cell=cell, size=17).float())
    monkeypatch.setattr(fused_module, "_cuda_dtype", lambda _: torch.bfloat16)
    outputs, *others = run(make_layer(fused=True, cell=cell, size=17).float())
    assert outputs.dtype == torch.bfloat16
    assert {other.dtype for other in others} == {torch.float32}
    for found, wanted in zip((outputs, *others), exact, strict=True):
        error = (found - wanted).norm() / wanted.norm()
        assert 0 < error < 0.02


def test_cells_with_a_fused_kernel() -> None:
    layers = {name: make_layer(fused=True, **CELLS[name]) for name in CELLS}
    fused = {name for name, layer in layers.items() if layer.kernel == "fused"}
    on_cuda = {name for name, layer in layers.items() if fused_kernel(layer.cell, "cuda")}
    assert on_cuda == {"rnn", "rnn, relu", "lstm", "gru, after", "sru", "sru, equal sizes"}
    assert fused == on_cuda | {"lstm, cap"}


def test_subclass_of_fused_cell_is_not_fused() -> None:
    class Subclass(LSTMCell):
        """May override the equations."""

    assert RecurrentLayer(Subclass(3, 4)).kernel == "unfused"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    "name", ["lstm, peepholes", "gru, before", "janet", "mogrifier, rank", "rlstm"]
)
def test_compiled_step_matches_eager(name: str) -> None:
    """Tests graph capture only; tests/test_gpu.py runs the compiled kernels."""
    unfused, compiled = (make_layer(**CELLS[name]) for _ in range(2))
    torch._dynamo.reset()  # otherwise all tests share one recompilation limit
    counters.clear()
    compiled.compile_step(batch_size=2, backend="aot_eager")
    assert compiled.kernel == "compiled"
    for one, other in zip(run(unfused), run(compiled), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_step_that_fails_to_compile_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    def failing_backend(*_: Any) -> Any:
        raise NotImplementedError

    unfused, layer = (make_layer(cell="janet") for _ in range(2))
    layer.compile_step(batch_size=2, backend=failing_backend)
    assert layer.kernel == "unfused"
    assert "torch.compile failed for JANETCell (" in caplog.text
    for one, other in zip(run(unfused), run(layer), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", CELLS)
def test_sequence_can_be_split_at_any_step(name: str) -> None:
    layer = make_layer(**CELLS[name])
    x = torch.randn(7, 2, 4, dtype=torch.float64)
    whole, last = layer(x, layer.initial_state(2))
    first, state = layer(x[:3], layer.initial_state(2))
    rest, split_last = layer(x[3:], state)
    torch.testing.assert_close(torch.cat([first, rest]), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(split_last, last, rtol=1e-12, atol=1e-12)


def test_slstm_gate_keeps_state_or_takes_candidate() -> None:
    """With f near 1 the state is kept; with f near 0 it becomes the candidate."""
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


def test_janet_chrono_initialization() -> None:
    cell = make_layer(cell="janet", chrono_steps=20, size=500).cell
    forget, candidate = cell.get_parameter("gates.bias").exp().chunk(2)
    assert forget.min() >= 1
    assert forget.max() <= 19
    assert forget.mean().item() == pytest.approx(10, rel=0.1)
    assert torch.equal(candidate, torch.ones_like(candidate))


def test_initializers() -> None:
    """Each fills weights within its bounds and leaves the biases at zero."""
    weights = {
        kind: dict(make_layer(kind=kind, cell="lstm", size=40).cell.named_parameters())
        for kind in ("uniform", "glorot_uniform", "orthogonal")
    }
    assert weights["uniform"]["gates.weight_hh"].abs().max().item() == pytest.approx(0.7, rel=0.01)
    glorot = math.sqrt(6 / (4 + 40 + 160))  # one kernel for input and state, as in TensorFlow
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
        layer = make_layer(cell=cell, initial_state=kind, fused=True)
        parts = layer.initial_state(2)
        assert [part.shape for part in parts] == [(2, size) for size in layer.cell.state_sizes]
        assert all(bool((part == value).all()) for part in parts)
        outputs, _ = layer(torch.zeros(2, 2, 4, dtype=torch.float64), parts)
        torch.autograd.backward(outputs.square().sum() + outputs.sum())
        learned = [parameter.grad for parameter in layer.learned_state]
        assert len(learned) == (len(parts) if kind == "learned" else 0)
        assert all(grad is not None and bool((grad != 0).all()) for grad in learned)
