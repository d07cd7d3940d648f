"""One training step: fused and unfused agree; DDP, torch.compile and loss terms work."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ptblm.backend.precision import Precision
from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.initializers import Initializer
from ptblm.model.kernels import fused as fused_module
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import HiddenState, RecurrentLayer
from ptblm.training.optimizer import SGD
from ptblm.training.step import Batch, StepParts, forward_backward, train_step
from tests.conftest import plain_environment
from tests.finite_differences import assert_gradients_match

# vocabulary, batch, steps, layers, hidden: ones, and no common multiples.
ODD_SHAPES = [
    (1, 3, 4, 1, 5),
    (11, 1, 7, 2, 3),
    (50, 4, 1, 1, 8),
    (2, 1, 1, 1, 1),
    (1013, 7, 13, 3, 37),
]
RTOL = {torch.float64: 1e-12, torch.float32: 2e-5}
FP32 = Precision("fp32", torch.device("cpu"))


def make_model(
    shape: tuple[int, ...] = ODD_SHAPES[1],
    dtype: torch.dtype = torch.float32,
    *,
    fused: bool = True,
    **config: Any,
) -> tuple[LanguageModel, Batch]:
    vocab_size, batch, steps, layers, hidden = shape
    model_config = ModelConfig.model_validate(
        {"hidden_size": hidden, "num_layers": layers, "dropout": 0.2, **config}
    )
    model = build_model(model_config, vocab_size, fused=fused).to(dtype)
    model.initialize(Initializer("uniform", 0.3), torch.Generator().manual_seed(1))
    return model, make_batch(vocab_size, batch, steps)


def make_batch(vocab_size: int, batch: int, steps: int) -> Batch:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(vocab_size, (batch, steps + 1), generator=generator)
    return Batch(ids[:, :-1], ids[:, 1:])


def filled_state(model: LanguageModel, batch: Batch) -> HiddenState:
    state = model.initial_state(len(batch.inputs))
    return tuple(tuple(torch.full_like(part, 0.1) for part in layer) for layer in state)


def results(
    model: LanguageModel, batch: Batch, precision: Precision = FP32, wrapped: Any = None
) -> dict[str, Tensor]:
    """Metrics, hidden state and gradients of a step, by name."""
    generator = torch.Generator().manual_seed(3)
    step_model = model if wrapped is None else wrapped
    output = forward_backward(step_model, batch, filled_state(model, batch), generator, precision)
    state = {
        f"state{layer}.{index}": part
        for layer, parts in enumerate(output.hidden_state)
        for index, part in enumerate(parts)
    }
    gradients = {
        name: parameter.grad.to_dense()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {"metrics": output.metrics, **state, **gradients}


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        error = (ours[name] - value).abs().max().item()
        # With a vocabulary of one, the gradient is rounding only.
        assert error <= tolerance * max(value.abs().max().item(), 1e-3), name


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
def test_fused_step_equals_unfused(
    shape: tuple[int, ...], dtype: torch.dtype, sparse: bool
) -> None:
    """Loss, norm, hidden state and every gradient, with dropout and repeated tokens."""
    model, batch = make_model(shape, dtype)
    unfused, _ = make_model(shape, dtype, fused=False)
    model.embedding.sparse = sparse
    assert_close(results(model, batch), results(unfused, batch), RTOL[dtype])


@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
@pytest.mark.parametrize(
    ("cell", "min_units"), [("lstm", 1), ("lstm", 100), ("gru", 1), ("slstm", 1), ("sru", 1)]
)
def test_bf16_step_has_the_precision_of_bf16(
    cell: str, min_units: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our LSTM kernel, torch's fused kernels, and cells without one."""
    monkeypatch.setattr(fused_module, "MIN_BF16_UNITS", min_units)
    model, batch = make_model(shape, cell=cell)
    exact = results(make_model(shape, fused=False, cell=cell)[0], batch)
    assert_close(results(model, batch, Precision("bf16", torch.device("cpu"))), exact, 0.05)


def test_bf16_step_trains_the_initial_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_module, "MIN_BF16_UNITS", 1)
    precision = Precision("bf16", torch.device("cpu"))
    found = []
    for fused in (True, False):
        model, batch = make_model(fused=fused, initial_state="learned")
        state = model.initial_state(len(batch.inputs))
        forward_backward(model, batch, state, torch.Generator().manual_seed(3), precision)
        layers = model.recurrent.layers
        found.append([part.grad for layer in layers for part in layer.learned_state])
    for ours, theirs in zip(*found, strict=True):
        assert theirs is not None
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * theirs.abs().max().item())


class CutOff(Cell):
    """Lets no gradient through, not even to its own weight."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.affine = nn.Linear(input_size, hidden_size)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        output = torch.tanh(self.affine(x) + state[0]).detach()
        return output, (output,)


def test_cell_that_detaches_trains_the_head_only() -> None:
    batch = make_batch(11, 3, 4)
    found = []
    for fused in (True, False):
        model = LanguageModel(11, 6, [RecurrentLayer(CutOff(6, 6))], fused=fused)
        model.initialize(Initializer("uniform", 0.3), torch.Generator().manual_seed(1))
        found.append(results(model, batch))
    assert {"head.weight", "head.bias"} <= found[0].keys()
    assert not any(name.startswith(("embedding", "recurrent")) for name in found[0])
    assert_close(found[0], found[1], RTOL[torch.float32])


def test_sparse_gradient_has_one_row_per_distinct_token() -> None:
    model, batch = make_model((1013, 2, 3, 1, 8))
    model.embedding.sparse = True
    results(model, batch)
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient._indices()[0].tolist() == sorted(set(batch.inputs.flatten().tolist()))


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_loss_term_matches_finite_differences(sparse: bool) -> None:
    """An L2 penalty on the features, added in one place."""
    model, batch = make_model((11, 3, 4, 2, 5), torch.float64)
    model.embedding.sparse = sparse
    model.loss_terms.append(lambda output: 0.3 * output.features.square().sum())

    def loss() -> float:
        generator = torch.Generator().manual_seed(3)
        loss, _, _ = model(*batch[:2], filled_state(model, batch), generator, scale=1 / 3)
        return float(loss.detach())

    without_term = results(make_model((11, 3, 4, 2, 5), torch.float64)[0], batch)
    gradients = results(model, batch)
    for name, _ in model.named_parameters():
        if not name.startswith("head"):
            assert not torch.allclose(gradients[name], without_term[name]), name
    assert_gradients_match(loss, model, gradients)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A gloo group of one process."""
    distributed = torch.distributed
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_trains_the_same_step(sparse: bool) -> None:
    model, batch = make_model()
    model.embedding.sparse = sparse
    expected = results(model, batch)
    wrapped = nn.parallel.DistributedDataParallel(model)
    assert_close(results(model, batch, wrapped=wrapped), expected, 1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_compiled_model_trains_the_same_step(fused: bool) -> None:
    model, batch = make_model(fused=fused)
    expected = results(model, batch)
    compiled = torch.compile(model, backend="eager")
    assert_close(results(model, batch, wrapped=compiled), expected, 1e-6)


def test_step_makes_no_update_if_the_loss_is_not_finite() -> None:
    model, batch = make_model()
    with torch.no_grad():
        model.head.bias[3] = float("nan")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, generator = filled_state(model, batch), torch.Generator()
    parts = StepParts(model, SGD(model.trainable_parameters()), FP32, 5.0, generator)
    output = train_step(parts, batch, state, learning_rate=1.0, seed=1)
    assert not output.metrics.isfinite().any()
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name


SCRIPT = """
import sys, torch
from tests.training.test_step import FP32, StepParts, filled_state, make_model, train_step
from ptblm.training.optimizer import SGD
model, batch = make_model()
parts = StepParts(model, SGD(model.trainable_parameters()), FP32, 5.0, torch.Generator())
train_step(parts, batch, filled_state(model, batch), learning_rate=1.0, seed=1)
print([name for name in ("sympy", "torch._dynamo") if name in sys.modules])
"""


def test_step_does_not_import_the_compiler() -> None:
    """Sympy alone takes 0.3 s and 30 MB."""
    command = [sys.executable, "-c", SCRIPT]
    environment = plain_environment()
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
