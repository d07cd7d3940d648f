"""Graphed steps, with `replayed` in place of a CUDA graph; tests/test_gpu.py uses a real one."""

import io
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ptblm.backend.loss_scaler import LossScaler
from ptblm.config.dropout import DropoutConfig
from ptblm.errors import DivergedError
from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.training import cuda_graph
from ptblm.training.cuda_graph import Body, CapturedTensors, capture_step, steps_until_sync
from ptblm.training.divergence import check_finite
from ptblm.training.records import EpochDone, StepDone
from ptblm.training.step import StepParts
from ptblm.training.trainer import Trainer
from tests.training.small_trainer import (
    CELLS,
    DROPOUT,
    OPTIMIZERS,
    assert_same_state,
    make_trainer,
    without_times,
)


def replayed(body: Body, _generator: torch.Generator) -> tuple[CapturedTensors, Callable[[], None]]:
    """Acts like a graph: each replay writes to the tensors of the capture."""
    outputs = body()
    parameters = list(cast(Any, body).__self__._parts.model.parameters())

    def replay() -> None:
        gradients = [parameter.grad for parameter in parameters]
        again = body()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        captured = [outputs.metrics, *outputs.gradients]
        values = [again.metrics, *again.gradients]
        for tensor, value in zip(captured, values, strict=True):
            if tensor is not None and value is not None:
                tensor.copy_(value)

    return outputs, replay


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are read within an epoch of 8 steps, at its end, and around it."""
    monkeypatch.setattr(cuda_graph, "_STEPS_PER_SYNC", 5)


def eager_trainer(**options: Any) -> Trainer:
    trainer = make_trainer(**options)
    # The norm of a sparse gradient is summed in another order.
    trainer.model.embedding.sparse = False
    return trainer


def graphed_trainer(**options: Any) -> Trainer:
    trainer = make_trainer(capture=replayed, **options)
    assert trainer.graphed_step is not None
    return trainer


def records_by_step(records: list[Any]) -> dict[Any, dict[str, Any]]:
    return {
        (type(record), getattr(record, "step", None)): values
        for record, values in zip(records, without_times(records), strict=True)
    }


def run(trainer: Trainer) -> list[Any]:
    return [record for record in trainer.records() if hasattr(record, "step")]


@pytest.mark.parametrize("log_every", [100, 3, 1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_graphed_run_equals_eager_run_bit_for_bit(optimizer: str, log_every: int) -> None:
    """With dropout, clipping, and a rate that changes at every step."""
    options = {
        "optimizer": optimizer,
        "learning_rate": OPTIMIZERS[optimizer],
        "schedule": "cosine",
        "warmup_steps": 11,
        "log_every": log_every,
    }
    eager, graphed = eager_trainer(**options), graphed_trainer(**options)
    wanted, found = run(eager), run(graphed)
    assert_same_state(graphed, eager)
    by_step = records_by_step(wanted)
    for key, values in records_by_step(found).items():
        assert values == by_step[key]
    ends = [record.step for record in found if isinstance(record, StepDone)]
    fixed = [s for s in range(1, 25) if s % 5 == 0 or s % 8 == 0 or s % log_every == 0]
    assert ends == fixed


@pytest.mark.parametrize("start", ["zeros", "learned"])
def test_graphed_steps_use_rotated_streams_and_resets(start: str) -> None:
    options: dict[str, Any] = {"cell": {"initial_state": start}, "streams": "rotated"}
    eager, graphed = (make(drop_state=0.3, **options) for make in (eager_trainer, graphed_trainer))
    run(eager)
    run(graphed)
    assert_same_state(graphed, eager)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("start", ["zeros", "ones", "learned"])
@pytest.mark.parametrize("cell", CELLS)
def test_graphed_run_equals_eager_run_for_every_cell(cell: str, start: str, precision: str) -> None:
    options: dict[str, Any] = {"cell": {"cell": cell, "initial_state": start}}
    eager = eager_trainer(precision=precision, **options)
    graphed = graphed_trainer(precision=precision, **options)
    run(eager)
    records = run(graphed)
    assert_same_state(graphed, eager)
    # A learned initial state is trained by an eager step.
    ends = [record.step for record in records if isinstance(record, StepDone)]
    assert ends[:2] == ([1, 5] if start == "learned" else [5, 8])


@pytest.mark.parametrize("cell", ["lstm", "mogrifier"])
def test_graphed_run_equals_eager_run_with_dropout_everywhere(cell: str) -> None:
    options: dict[str, Any] = {"cell": {"cell": cell, "dropout": DROPOUT}}
    options |= {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0}
    eager, graphed = eager_trainer(**options), graphed_trainer(**options)
    run(eager)
    run(graphed)
    assert_same_state(graphed, eager)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_run_resumed_at_every_record_equals_uninterrupted_run(optimizer: str) -> None:
    options = {"optimizer": optimizer, "learning_rate": OPTIMIZERS[optimizer]}
    whole = graphed_trainer(**options)
    wanted = list(whole.records())
    trainer, found = graphed_trainer(**options), []
    ended = False
    while not ended:
        for record in trainer.records():
            found.append(record)
            if isinstance(record, StepDone | EpochDone):
                break
        else:
            ended = True
        file = io.BytesIO()
        torch.save(trainer.state_dict(), file)
        file.seek(0)
        trainer = graphed_trainer(**options)
        trainer.load_state_dict(torch.load(file, weights_only=True))
    assert_same_state(trainer, whole)
    assert without_times(found) == without_times(wanted)


@pytest.mark.parametrize("log_every", [1, 4, 7, 100])
def test_metrics_are_read_at_fixed_steps(log_every: int) -> None:
    ends = set()
    for start in range(40):
        step = start + steps_until_sync(start, 40 - start, log_every)
        ends.add(step)
        assert steps_until_sync(start, 3, log_every) <= 3
    assert ends == {s for s in range(1, 41) if s % 5 == 0 or s % log_every == 0}


def test_requested_steps_have_a_record_of_their_own() -> None:
    """The steps at which `run.keep_at` keeps a checkpoint, within and at the end of an epoch."""
    eager, trainer = eager_trainer(), graphed_trainer()
    trainer.sync_at = [3, 8, 13]
    list(eager.records())
    steps = [record.step for record in trainer.records() if isinstance(record, StepDone)]
    assert steps == [3, 5, 8, 10, 13, 15, 16, 20, 24]
    assert_same_state(trainer, eager)


def test_host_waits_once_per_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the launches; inside a graph it cannot."""
    trainer = graphed_trainer(optimizer="momentum", learning_rate=0.1)
    assert trainer.graphed_step is not None
    trainer.graphed_step._replay = lambda: None
    reads = 0

    def counted(self: Tensor) -> Any:
        nonlocal reads
        reads += 1
        return original(self)

    def forbidden(self: Tensor) -> Any:
        raise AssertionError("the host waits for the device")

    original = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", counted)
    for name in ("item", "__bool__", "__float__", "__int__", "cpu", "numpy", "nonzero"):
        monkeypatch.setattr(Tensor, name, forbidden)
    records = trainer.records()
    for count in (1, 2):
        next(records)
        assert reads == count


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_between_two_reads_is_reported_with_its_step(bad: float) -> None:
    """The token with a bad vector first occurs in the third batch."""
    trainer = graphed_trainer()
    early, third = (
        set(trainer.epoch_text.streams[:, columns].flatten().tolist())
        for columns in (slice(0, 8), slice(8, 12))
    )
    token = min(third - early)
    with torch.no_grad():
        trainer.model.embedding.weight[token] = bad
    with pytest.raises(DivergedError, match="training diverged") as caught:
        next(trainer.records())
    assert caught.value.metrics["step"] == 3
    assert caught.value.metrics["batch"] == 3
    with pytest.raises(DivergedError):
        check_finite(trainer)


def test_overflowing_norm_is_a_divergence() -> None:
    trainer = graphed_trainer()
    graphed = trainer.graphed_step
    assert graphed is not None
    replay = graphed._replay

    def overflowing() -> None:
        replay()
        graphed._captured.metrics[1] = float("inf")

    graphed._replay = overflowing
    with pytest.raises(DivergedError) as caught:
        next(trainer.records())
    assert caught.value.metrics["step"] == 1


def failing(error: Exception) -> Any:
    def capture(body: Body, _generator: torch.Generator) -> Any:
        body()
        raise error

    return capture


def frozen(body: Body, _generator: torch.Generator) -> tuple[CapturedTensors, Callable[[], None]]:
    """As if the host had drawn the dropout masks: every replay has the same ones."""
    return body(), lambda: None


@pytest.mark.parametrize(
    ("capture", "name"),
    [
        (failing(RuntimeError("called a synchronizing CUDA operation")), "RuntimeError"),
        (frozen, "ReplayMismatchError"),
    ],
)
def test_failed_capture_falls_back_to_eager_steps(
    capture: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    eager, trainer = eager_trainer(), make_trainer(capture=capture)
    assert trainer.graphed_step is None
    assert f"a step cannot be captured as a CUDA graph ({name}" in caplog.text
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    wanted, found = list(eager.records()), list(trainer.records())
    assert without_times(found) == without_times(wanted)
    assert_same_state(trainer, eager)


def test_out_of_memory_during_capture_is_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        make_trainer(capture=failing(torch.OutOfMemoryError("CUDA out of memory")))


def test_run_with_loss_scaling_uses_eager_steps() -> None:
    """The host decides after each step whether to update."""
    trainer = make_trainer()
    trainer.precision.scaler = LossScaler()
    norm, generator = trainer.config.max_grad_norm, torch.Generator()
    parts = StepParts(trainer.model, trainer.optimizer, trainer.precision, norm, generator)
    assert capture_step(parts, trainer.epoch_text[0], trainer.hidden_state, replayed) is None


class Delay(Cell):
    """A cell whose state is its last two outputs, so that a step passes a tensor on unchanged."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.state_sizes = (hidden_size, hidden_size)
        self.affine = torch.nn.Linear(input_size, hidden_size)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        new, old = state
        output = torch.tanh(self.affine(x) + 0.5 * old)
        return output, (output, new)


def test_state_that_shares_memory_with_the_previous_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_delays(*_: Any, **__: Any) -> LanguageModel:
        return LanguageModel(13, 6, [RecurrentLayer(Delay(6, 6))], DropoutConfig.everywhere(0.3))

    monkeypatch.setattr("tests.training.small_trainer.build_model", with_delays)
    eager, graphed = eager_trainer(num_steps=1), graphed_trainer(num_steps=1)
    for trainer in (eager, graphed):
        run(trainer)
    assert_same_state(graphed, eager)
