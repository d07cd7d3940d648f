"""On CUDA: agreement with the CPU and with unfused steps, every precision, exact resume.

The deterministic mode is process-wide, so its tests come last.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ptblm.backend.device import can_compile
from ptblm.config.cells import CustomCellConfig
from ptblm.config.loading import load_config
from ptblm.config.schema import VARIANT_KEYS
from ptblm.errors import DivergedError, UsageError
from ptblm.run.dry_run import dry_run
from ptblm.run.setup import RunComponents, setup_run
from ptblm.training.cuda_graph import CapturedTensors, capture_on_cuda, forbid_host_sync
from ptblm.training.records import RunDone, StepDone
from ptblm.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # cuDNN and torch's compiler warn about performance and deprecations, not about errors.
    pytest.mark.filterwarnings("default"),
]
# The deterministic mode sets this variable. cuBLAS reads it once, before its first GEMM.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def _reset_compiler() -> Iterator[None]:
    """Resets torch's recompilation limit, which many tests in one process would reach."""
    yield
    torch.compiler.reset()


SETTINGS = {"data.path": "sample", "model.hidden_size": 64, "training.epochs": 2}
CELLS = list(VARIANT_KEYS["model", "cell"].options)
RATES = {
    "sgd": 0.5,
    "momentum": 0.1,
    "adam": 0.001,
    "adamw": 0.001,
    "nadam": 0.001,
    "muon": 0.02,
    "rmsprop": 0.001,
}


def settings(**changes: Any) -> list[str]:
    """Overrides; two underscores in a name stand for the dot of a key."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    cuda = {"run.device": "cuda", **SETTINGS}
    return [f"{key}={str(value).lower()}" for key, value in {**cuda, **changed}.items()]


def make(*, eagerly: bool = False, **changes: Any) -> RunComponents:
    components = setup_run(load_config("small", settings(**changes)))
    if eagerly:
        components.trainer.graphed_step = None
    return components


def first_steps(components: RunComponents, steps: int) -> dict[int, float]:
    """The loss per token of each recorded step among the first `steps`, by step."""
    losses = {}
    for record in components.trainer.records():
        assert isinstance(record, StepDone)
        losses[record.step] = record.nll / record.tokens
        if record.step >= steps:
            break
    return losses


def assert_close(found: dict[int, float], expected: dict[int, float], rtol: float) -> None:
    """Compares the steps that both recorded; a captured run records fewer."""
    both = sorted(found.keys() & expected.keys())
    assert both
    np.testing.assert_allclose([found[s] for s in both], [expected[s] for s in both], rtol=rtol)


def assert_equal(ours: Trainer, theirs: Trainer) -> None:
    weights = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    expected = theirs.optimizer.state_dict()
    found = ours.optimizer.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name
    assert ours.averages.counts() == theirs.averages.counts()
    for average, other in zip(ours.averages.tensors(), theirs.averages.tensors(), strict=True):
        assert torch.equal(average, other)


def kernel_of(cell: str) -> str:
    if cell in ("lstm", "rnn", "gru", "sru"):
        return "fused"
    return "compiled" if can_compile(torch.device("cuda")) else "unfused"


def test_fp32_on_cuda_equals_the_cpu() -> None:
    """Initial weights are drawn on the CPU, so both start from the same model; dropout is off."""
    cpu = first_steps(make(run__device="cpu"), 20)
    assert_close(first_steps(make(run__log_every=5), 20), cpu, rtol=1e-4)


@pytest.mark.parametrize("unfused", [False, True], ids=["fast", "unfused"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_on_cuda_equals_the_cpu(cell: str, unfused: bool) -> None:
    """Fused or compiled, and unfused."""
    options: dict[str, Any] = {
        "model__cell": cell,
        "run__fused": not unfused,
        "training__learning_rate": 0.1,
    }
    cpu = first_steps(make(run__device="cpu", **options), 10)
    components = make(run__log_every=1, **options)
    trainer = components.trainer
    assert trainer.model.recurrent.kernel == ("unfused" if unfused else kernel_of(cell))
    assert (trainer.graphed_step is None) == unfused
    assert_close(first_steps(components, 10), cpu, rtol=1e-4)


@pytest.mark.parametrize("unfused", [False, True], ids=["fast", "unfused"])
def test_adaptive_softmax_on_cuda_equals_the_cpu(unfused: bool) -> None:
    """The targets of a cluster are counted on the host, so the steps are not captured."""
    options: dict[str, Any] = {"model__head": "adaptive", "run__fused": not unfused}
    cpu = first_steps(make(run__device="cpu", **options), 20)
    components = make(run__log_every=1, **options)
    assert components.trainer.graphed_step is None
    assert_close(first_steps(components, 20), cpu, rtol=1e-4)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_fused_kernels_use_the_precision_of_the_run(
    cell: str, precision: str, dtype: torch.dtype
) -> None:
    """By default, autocast runs cuDNN in fp16 for bf16 too, where small gradients underflow."""
    components = make(model__cell=cell, run__precision=precision)
    trainer = components.trainer
    with trainer.precision.autocast():
        features, state = trainer.model.features(trainer.epoch_text[0].inputs, trainer.hidden_state)
    assert features.dtype == dtype
    assert {part.dtype for layer in state for part in layer} == {torch.float32}


@pytest.mark.parametrize("config", ["small", "medium", "large"])
def test_shipped_configs_are_captured(config: str) -> None:
    """Kernels of cuDNN depend on the size, so every shipped size is tested."""
    flags = ["run.device=cuda", "data.path=sample", "run.log_every=1"]
    components = setup_run(load_config(config, flags))
    assert components.trainer.model.recurrent.kernel == "fused"
    assert components.trainer.graphed_step is not None
    # An untrained model predicts a nearly uniform distribution.
    uniform = np.log(len(components.corpus.vocabulary))
    assert first_steps(components, 1)[1] == pytest.approx(uniform, rel=0.02)


@pytest.mark.parametrize(("precision", "rtol"), [("fp32", 1e-4), ("tf32", 1e-3), ("bf16", 3e-3)])
@pytest.mark.parametrize(
    ("cell", "start"), [*((cell, "zeros") for cell in CELLS), ("lstm", "learned")]
)
def test_captured_steps_equal_eager_ones(
    cell: str, start: str, precision: str, rtol: float
) -> None:
    options: dict[str, Any] = {
        "model__cell": cell,
        "model__initial_state": start,
        "model__dropout": 0.5,
        "run__precision": precision,
        "training__learning_rate": 0.1,
        "run__log_every": 7,
    }
    captured = make(**options)
    assert captured.trainer.model.recurrent.kernel == kernel_of(cell)
    assert captured.trainer.graphed_step is not None
    found, expected = first_steps(captured, 60), first_steps(make(eagerly=True, **options), 60)
    assert set(found) < set(expected)
    assert_close(found, expected, rtol)


@pytest.mark.parametrize("optimizer", RATES)
def test_captured_steps_draw_the_same_dropout_masks(optimizer: str) -> None:
    """With weights this large, a different mask changes the loss."""
    options: dict[str, Any] = {
        "model__dropout": 0.5,
        "model__init_scale": 0.5,
        "training__optimizer": optimizer,
        "training__learning_rate": 1e-6,
        "run__log_every": 1,
    }
    found = first_steps(make(**options), 10)
    assert_close(found, first_steps(make(eagerly=True, **options), 10), rtol=1e-5)
    other = first_steps(make(training__seed=1, **options), 10)
    assert max(abs(found[s] / other[s] - 1) for s in found) > 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("cell", "kernel"),
    [("lstm", "loop"), ("mogrifier", "loop"), ("rlstm", "loop"), ("gru", "fused")],
)
def test_captured_steps_equal_eager_ones_with_all_dropout(
    cell: str, kernel: str, precision: str
) -> None:
    """DropConnect keeps the kernels of cuDNN; dropout of the hidden state needs a loop."""
    dropout = {"input": 0.2, "between": 0.3, "output": 0.4, "locked": True, "embedding": 0.1}
    options: dict[str, Any] = {
        **{f"model__dropout__{key}": value for key, value in dropout.items()},
        "model__dropout__recurrent_weights": 0.5,
        "model__dropout__recurrent_state": 0.3 if kernel == "loop" else 0.0,
        "model__cell": cell,
        "training__activation_regularization": 2.0,
        "training__temporal_activation_regularization": 1.0,
        "training__learning_rate": 0.1,
        "run__precision": precision,
        "run__log_every": 7,
    }
    captured = make(**options)
    loop = "compiled" if can_compile(torch.device("cuda")) else "unfused"
    assert captured.trainer.model.recurrent.kernel == (loop if kernel == "loop" else kernel)
    assert captured.trainer.graphed_step is not None
    found, expected = first_steps(captured, 60), first_steps(make(eagerly=True, **options), 60)
    assert_close(found, expected, rtol=1e-4 if precision == "fp32" else 3e-3)


def test_capped_input_gate_on_cuda_equals_the_cpu() -> None:
    """The explicit kernel on a CPU, the steps of the cell on CUDA."""
    options: dict[str, Any] = {"model__cell__cap_input_gate": True, "training__learning_rate": 0.1}
    cpu = make(run__device="cpu", **options)
    assert cpu.trainer.model.recurrent.kernel == "fused"
    components = make(run__log_every=1, **options)
    assert components.trainer.model.recurrent.kernel != "fused"
    assert_close(first_steps(components, 10), first_steps(cpu, 10), rtol=1e-4)


@pytest.mark.parametrize("optimizer", RATES)
def test_captured_steps_never_wait_for_the_device(optimizer: str) -> None:
    rate = RATES[optimizer]
    trainer = make(training__optimizer=optimizer, training__learning_rate=rate).trainer
    assert trainer.graphed_step is not None
    next(trainer.records())
    hidden_state = trainer.hidden_state
    with forbid_host_sync():
        with pytest.raises(RuntimeError):
            trainer.model.head.bias[0].item()
        for index in range(1, 4):
            output = trainer.graphed_step(
                trainer.epoch_text[index], hidden_state, learning_rate=rate, seed=index
            )
            hidden_state = output.hidden_state


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_precision_learns(precision: str) -> None:
    components = make(run__precision=precision)
    *_, last = components.trainer.records()
    assert isinstance(last, RunDone)
    assert last.score is not None
    assert components.corpus.entropy_bounds["test"] < last.score.perplexity < 30


def test_divergence_reports_its_step() -> None:
    trainer = make().trainer
    ids = trainer.epoch_text.streams
    steps = trainer.config.num_steps
    early, third = (
        set(ids[:, columns].flatten().tolist())
        for columns in (slice(0, 2 * steps), slice(2 * steps, 3 * steps))
    )
    with torch.no_grad():
        trainer.model.embedding.weight[min(third - early)] = float("nan")
    with pytest.raises(DivergedError) as caught:
        next(trainer.records())
    assert caught.value.metrics["step"] == 3


def test_out_of_memory_is_a_usage_error() -> None:
    """The weights fit in memory, a training step does not."""
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    room = torch.cuda.memory_reserved() + 60e6
    torch.cuda.set_per_process_memory_fraction(room / total)
    overrides = settings(model__hidden_size=512, training__batch_size=200)
    try:
        with pytest.raises(UsageError, match=r"out of memory with model\.hidden_size 512"):
            dry_run(load_config("small", overrides), None, overwrite=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    first_steps(make(), 10)


CUSTOM_CELLS = """
import torch
from torch import nn
from ptblm.model.cells.cell import Cell


class Waiting(Cell):
    # Branches on a value from the device, and draws from the global generator.
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.affine = nn.Linear(input_size + hidden_size, hidden_size)
        self.dropout = nn.Dropout(0.1)

    def step(self, x, state):
        h = torch.tanh(self.affine(torch.cat([x, state[0]], 1)))
        h = self.dropout(h) if h.sum().item() < 1e9 else h
        return h, (h,)


class Drawing(Waiting):
    # Draws on the host: a graph would replay the same value.
    def step(self, x, state):
        h = torch.tanh(self.affine(torch.cat([x, state[0]], 1)))
        h = h * float(torch.rand(()))
        return h, (h,)


class Dropping(Waiting):
    def step(self, x, state):
        h = self.dropout(torch.tanh(self.affine(torch.cat([x, state[0]], 1))))
        return h, (h,)
"""


@pytest.mark.parametrize(
    ("cell", "warning"),
    [
        ("Waiting", "cannot be captured"),
        ("Drawing", "(ReplayMismatchError"),
        ("Dropping", None),
    ],
)
def test_custom_cells_that_cannot_be_captured_run_eagerly(
    cell: str, warning: str | None, in_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their losses equal those of an eager run."""
    (in_directory / "custom_cells.py").write_text(CUSTOM_CELLS)
    options: dict[str, Any] = {"model__dropout": 0.3, "training__learning_rate": 0.1}
    config = load_config("small", settings(**options, run__log_every=5))
    # `settings` would lower the case of the cell's name.
    model = config.model.model_copy(update={"cell": CustomCellConfig(type=f"custom_cells:{cell}")})
    config = config.model_copy(update={"model": model})
    fast, eager = setup_run(config), setup_run(config)
    eager.trainer.graphed_step = None
    assert (fast.trainer.graphed_step is None) == (warning is not None)
    assert (warning or "") in caplog.text
    found, expected = first_steps(fast, 20), first_steps(eager, 20)
    assert_close(found, expected, rtol=1e-4)


@pytest.fixture
def _restore_determinism() -> Iterator[None]:
    """Ends the deterministic mode after the test."""
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


def deterministic_options(optimizer: str, precision: str) -> dict[str, Any]:
    return {
        "model__dropout": 0.3,
        "run__precision": precision,
        "training__optimizer": optimizer,
        "training__learning_rate": RATES[optimizer],
        "training__average": "two_tailed",
        "run__deterministic": True,
    }


@pytest.mark.usefixtures("_restore_determinism")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("optimizer", [name for name in RATES if name != "sgd"])
def test_deterministic_captured_steps_equal_eager_ones_exactly(
    optimizer: str, precision: str
) -> None:
    """Except sgd, whose update has one more rounding on the device than on the host."""
    options = deterministic_options(optimizer, precision)
    captured, eager = make(**options), make(eagerly=True, **options)
    first_steps(captured, 50)
    first_steps(eager, 50)
    assert_equal(captured.trainer, eager.trainer)


@pytest.mark.usefixtures("_restore_determinism")
@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [
        *((precision, "sgd") for precision in ("fp32", "tf32", "bf16", "fp16")),
        *(("fp32", optimizer) for optimizer in RATES if optimizer != "sgd"),
        ("fp16", "adam"),
    ],
)
def test_deterministic_resume_is_bit_exact(precision: str, optimizer: str, tmp_path: Path) -> None:
    options = {**deterministic_options(optimizer, precision), "run__log_every": 30}
    whole, stopped, resumed = (make(**options) for _ in range(3))
    first_steps(whole, 75)
    first_steps(stopped, 30)
    torch.save(stopped.trainer.state_dict(), tmp_path / "saved.pt")
    saved: dict[str, Any] = torch.load(tmp_path / "saved.pt", map_location="cpu")
    resumed.trainer.load_state_dict(saved)
    first_steps(resumed, 75)
    assert_equal(resumed.trainer, whole.trainer)


def test_failed_capture_leaves_cuda_usable() -> None:
    """Runs last, because a failed capture leaves memory in torch's allocator."""
    generator = torch.Generator("cuda")

    def body() -> CapturedTensors:
        drawn = torch.rand(4, device="cuda", generator=generator) + torch.rand(4, device="cuda")
        event = torch.cuda.Event()
        event.record()
        event.synchronize()  # waits for the device, which torch does not detect
        return CapturedTensors(drawn, [])

    with pytest.raises(Exception, match="captur"):
        capture_on_cuda(body, generator)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    drawn: Tensor = torch.rand(1000, device="cuda")
    assert 0.4 < drawn.mean().item() < 0.6
    assert make().trainer.graphed_step is not None
