"""Captured steps: everything about them but the graph itself, for which `replayed` stands in.

What a CUDA device makes of them is in tests/test_gpu.py.
"""

import io
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ptblm.backend.loss_scaler import LossScaler
from ptblm.errors import DivergedError
from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.training import stepper
from ptblm.training.clipping import clip_coefficient, clip_coefficient_on_device
from ptblm.training.cuda_graph import Body, Outputs
from ptblm.training.optimizer import state_tensors
from ptblm.training.records import EpochDone, StepDone
from ptblm.training.stepper import steps_until_sync
from ptblm.training.trainer import Trainer
from tests.training.small_trainer import (
    OPTIMIZERS,
    assert_same,
    make_trainer,
    weights,
    without_times,
)


def replayed(body: Body, _generator: torch.Generator) -> tuple[Outputs, Callable[[], None]]:
    """A graph's manners without a graph: what it computes lands where it landed when captured.

    And it knows nothing of what Python calls by which name.
    """
    outputs = body()
    parameters = cast(Any, body).__self__._parameters

    def replay() -> None:
        gradients = [parameter.grad for parameter in parameters]
        again = body()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        locations = [outputs.figures, outputs.clip, *outputs.gradients]
        values = [again.figures, again.clip, *again.gradients]
        for place, value in zip(locations, values, strict=True):
            if place is not None and value is not None:
                place.copy_(value)

    return outputs, replay


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends within an epoch of 8 steps, at its end, and on either side of it."""
    monkeypatch.setattr(stepper, "_STEPS_BETWEEN_READS", 5)


def eager_trainer(**options: Any) -> Trainer:
    trainer = make_trainer(**options)
    # Where only some rows have a gradient the norm is summed in another order.
    trainer.model.embedding.sparse = False
    return trainer


def captured_trainer(**options: Any) -> Trainer:
    trainer = make_trainer(capture=replayed, **options)
    assert trainer.stepper.path.endswith(", one captured graph")
    return trainer


def assert_all_the_same(ours: Trainer, theirs: Trainer) -> None:
    assert_same(weights(ours), weights(theirs))
    kept = zip(state_tensors(ours.optimizer), state_tensors(theirs.optimizer), strict=True)
    assert all(torch.equal(one, other) for one, other in kept)


def records_by_place(records: list[Any]) -> dict[Any, dict[str, Any]]:
    return {
        (type(record), getattr(record, "step", None)): figures
        for record, figures in zip(records, without_times(records), strict=True)
    }


def run(trainer: Trainer) -> list[Any]:
    return [record for record in trainer.records() if hasattr(record, "step")]


@pytest.mark.parametrize("log_every", [100, 3, 1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_captured_run_equals_an_eager_one_bit_for_bit(optimizer: str, log_every: int) -> None:
    """Dropout, clipping, a rate that changes at every step; every record but those between."""
    options = {
        "optimizer": optimizer,
        "learning_rate": OPTIMIZERS[optimizer],
        "schedule": "cosine",
        "warmup_steps": 11,
        "log_every": log_every,
    }
    eager, captured = eager_trainer(**options), captured_trainer(**options)
    wanted, found = run(eager), run(captured)
    assert_all_the_same(captured, eager)
    by_place = records_by_place(wanted)
    for place, figures in records_by_place(found).items():
        assert figures == by_place[place]
    ends = [record.step for record in found if isinstance(record, StepDone)]
    fixed = [s for s in range(1, 25) if s % 5 == 0 or s % 8 == 0 or s % log_every == 0]
    assert ends == fixed


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("start", ["zeros", "ones", "learned"])
@pytest.mark.parametrize("cell", ["lstm", "rnn", "gru", "slstm", "janet", "mogrifier"])
def test_every_cell_and_start_state(cell: str, start: str, precision: str) -> None:
    options: dict[str, Any] = {"cell": {"cell": cell, "initial_state": start}}
    eager = eager_trainer(precision=precision, **options)
    captured = captured_trainer(precision=precision, **options)
    run(eager)
    records = run(captured)
    assert_all_the_same(captured, eager)
    # The gradient of a learned state is an eager step's.
    ends = [record.step for record in records if isinstance(record, StepDone)]
    assert ends[:2] == ([1, 5] if start == "learned" else [5, 8])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_stopped_at_every_record_equals_one_that_was_not(optimizer: str) -> None:
    options = {"optimizer": optimizer, "learning_rate": OPTIMIZERS[optimizer]}
    whole = captured_trainer(**options)
    wanted = list(whole.records())
    trainer, found = captured_trainer(**options), []
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
        trainer = captured_trainer(**options)
        trainer.load_state_dict(torch.load(file, weights_only=True))
    assert_all_the_same(trainer, whole)
    assert without_times(found) == without_times(wanted)


@pytest.mark.parametrize("log_every", [1, 4, 7, 100])
def test_where_figures_are_read_does_not_depend_on_where_one_comes_from(log_every: int) -> None:
    ends = set()
    for start in range(40):
        step = start + steps_until_sync(start, 40 - start, log_every)
        ends.add(step)
        assert steps_until_sync(start, 3, log_every) <= 3
    assert ends == {s for s in range(1, 41) if s % 5 == 0 or s % log_every == 0}


def test_the_host_reads_once_for_each_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the launches, that is: what is launched is a graph, and can't ask the host."""
    trainer = captured_trainer(optimizer="adam", learning_rate=0.01)
    assert trainer.stepper.captured is not None
    trainer.stepper.captured._replay = lambda: None
    reads = 0

    def counted(self: Tensor) -> Any:
        nonlocal reads
        reads += 1
        return original(self)

    def refused(self: Tensor) -> Any:
        raise AssertionError("the host waits for the device")

    original = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", counted)
    for name in ("item", "__bool__", "__float__", "__int__", "cpu", "numpy", "nonzero"):
        monkeypatch.setattr(Tensor, name, refused)
    records = trainer.records()
    for count in (1, 2):
        next(records)
        assert reads == count


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_in_the_middle_of_a_block_is_noticed_with_its_step(bad: float) -> None:
    """Whatever the steps after it find: this word comes in the third batch, and not again soon."""
    trainer = captured_trainer()
    early, third = (
        set(trainer.train_text[0][:, columns].flatten().tolist())
        for columns in (slice(0, 8), slice(8, 12))
    )
    word = min(third - early)
    with torch.no_grad():
        trainer.model.embedding.weight[word] = bad
    with pytest.raises(DivergedError, match="training diverged") as caught:
        next(trainer.records())
    assert caught.value.figures["step"] == 3
    assert caught.value.figures["batch"] == 3
    with pytest.raises(DivergedError):
        trainer.refuse_divergence()


def test_a_norm_that_overflows_is_noticed_though_every_loss_is_finite() -> None:
    trainer = captured_trainer()
    outputs = trainer.stepper.captured
    assert outputs is not None
    replay = outputs._replay

    def overflowing() -> None:
        replay()
        outputs._outputs.figures[1] = float("inf")

    outputs._replay = overflowing
    with pytest.raises(DivergedError) as caught:
        next(trainer.records())
    assert caught.value.figures["step"] == 1


def failing(error: Exception) -> Any:
    def capture(body: Body, _generator: torch.Generator) -> Any:
        body()
        raise error

    return capture


def frozen(body: Body, _generator: torch.Generator) -> tuple[Outputs, Callable[[], None]]:
    """As if the host had drawn the masks: every replay has the first one's."""
    return body(), lambda: None


@pytest.mark.parametrize(
    ("capture", "name"),
    [
        (failing(RuntimeError("called a synchronizing CUDA operation")), "RuntimeError"),
        (frozen, "ReplayDiffersError"),
    ],
)
def test_where_nothing_can_be_captured_the_run_is_eager(capture: Any, name: str) -> None:
    eager, trainer = eager_trainer(), make_trainer(capture=capture)
    assert trainer.stepper.path == f"fused (not captured: {name})"
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    wanted, found = list(eager.records()), list(trainer.records())
    assert without_times(found) == without_times(wanted)
    assert_all_the_same(trainer, eager)


def test_a_device_that_is_full_is_no_reason_to_go_on_eagerly() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        make_trainer(capture=failing(torch.OutOfMemoryError("CUDA out of memory")))


def test_steps_as_they_read_are_not_captured() -> None:
    trainer = make_trainer(capture=replayed, plain=True)
    assert trainer.stepper.captured is None
    assert trainer.stepper.path == "step by step"


def test_loss_scaling_is_the_hosts() -> None:
    trainer = make_trainer()
    trainer.precision.scaler = LossScaler()
    trainer.stepper.capture(*trainer._batch(0), trainer.state, replayed)
    assert trainer.stepper.captured is None


class Delay(Cell):
    """Its state is its last two outputs, so after one step the older one is a part passed on."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.state_sizes = (hidden_size, hidden_size)
        self.affine = torch.nn.Linear(input_size, hidden_size)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        new, old = state
        output = torch.tanh(self.affine(x) + 0.5 * old)
        return output, (output, new)


def test_a_state_that_is_a_part_of_the_state_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_delays(*_: Any, **__: Any) -> LanguageModel:
        return LanguageModel(13, 6, [RecurrentLayer(Delay(6, 6))], 0.3)

    monkeypatch.setattr("tests.training.small_trainer.build_model", with_delays)
    eager, captured = eager_trainer(num_steps=1), captured_trainer(num_steps=1)
    for trainer in (eager, captured):
        run(trainer)
    assert_all_the_same(captured, eager)


@pytest.mark.parametrize("norm", [0.0, 1e-3, 0.5, 7.25, 1e30, float("inf")])
def test_the_device_clips_as_the_host_does(norm: float) -> None:
    on_device = clip_coefficient_on_device(torch.tensor(norm), 0.5)
    assert on_device.item() == pytest.approx(clip_coefficient(norm, 0.5), rel=1e-15)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_scale_may_be_a_tensor(optimizer: str) -> None:
    """And is applied as exactly as a number; a gradient that is not there is zero."""
    results = []
    for scale in (0.3, torch.tensor(0.3, dtype=torch.float64), 1.0, cast(Any, torch.tensor(1.0))):
        trainer = make_trainer(optimizer=optimizer)
        source = torch.Generator().manual_seed(3)
        for parameter in trainer.optimizer.parameters[1:]:
            parameter.grad = torch.randn(parameter.shape, generator=source)
        trainer.optimizer.step(0.7, scale)
        results.append(weights(trainer))
    assert_same(results[0], results[1])
    assert_same(results[2], results[3])
    assert not torch.equal(results[0]["softmax.weight"], results[2]["softmax.weight"])
