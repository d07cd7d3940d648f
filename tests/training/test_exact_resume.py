"""A run that is stopped and resumed ends bit for bit like an uninterrupted run."""

import io
import itertools
from typing import Any

import pytest
import torch

from ptblm.backend.matmul import use_matmul_backend
from ptblm.model.kernels import fused
from ptblm.training.records import EpochDone, Evaluating, StepDone
from ptblm.training.trainer import Trainer
from tests.training.small_trainer import (
    CELLS,
    DROPOUT,
    OPTIMIZERS,
    assert_same,
    assert_same_state,
    make_trainer,
    weights,
    without_times,
)


def train_with_stops(stops: list[int], **settings: Any) -> tuple[Trainer, list[Any]]:
    """Trains to the end and resumes with a new trainer after each of these steps.

    A stop that has been passed takes effect after one more step.
    """
    trainer = make_trainer(**settings)
    records: list[Any] = []
    for stop in stops:
        for record in trainer.records():
            records.append(record)
            if isinstance(record, StepDone) and record.step >= stop:
                break
        saved = trainer.state_dict()
        trainer = make_trainer(**settings)
        trainer.load_state_dict(saved)
    return trainer, [*records, *trainer.records()]


# Mid-epoch, at the last step before a decay, around it, at the first step, at the end.
@pytest.mark.parametrize("stops", [[3], [8], [7, 8, 9], [1], [15], [16], [2, 2, 13]])
def test_resume_is_bit_exact(stops: list[int]) -> None:
    whole = make_trainer(epochs=2)
    whole_records = list(whole.records())

    trainer, records = train_with_stops(stops, epochs=2)
    assert_same(weights(whole), weights(trainer))
    assert without_times(records) == without_times(whole_records)


@pytest.mark.parametrize(
    ("way", "start"),
    [
        *((way, "zeros") for way in ("fused", "unfused", "onednn", "bf16")),
        ("fused", "learned"),
        ("unfused", "learned"),
    ],
)
@pytest.mark.parametrize("cell", CELLS)
def test_resume_is_bit_exact_for_every_cell(
    cell: str, way: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "MIN_BF16_UNITS", 1)
    options: dict[str, Any] = {"cell": {"cell": cell, "initial_state": start}}
    options |= {"fused": way != "unfused", "precision": "bf16" if way == "bf16" else "fp32"}
    with use_matmul_backend("onednn" if way == "onednn" else "default"):
        assert_resume_is_exact(options)


@pytest.mark.parametrize(
    "cell",
    [
        {"type": "mogrifier", "rounds": 3, "rank": 2, "cap_input_gate": True, "chrono_steps": 9},
        {"type": "rlstm", "rounds": 2, "rank": 2, "chrono_steps": 9},
    ],
    ids=str,
)
def test_resume_is_bit_exact_with_state_dropout(cell: dict[str, Any]) -> None:
    assert_resume_is_exact({"cell": {"cell": cell, "dropout": {"recurrent_state": 0.3}}})


@pytest.mark.parametrize("way", ["fused", "unfused", "bf16"])
@pytest.mark.parametrize("cell", ["lstm", "rnn", "mogrifier", "rlstm"])
def test_resume_is_bit_exact_with_dropout_everywhere(
    cell: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "MIN_BF16_UNITS", 1)
    options: dict[str, Any] = {"cell": {"cell": cell, "dropout": DROPOUT}}
    options |= {"fused": way != "unfused", "precision": "bf16" if way == "bf16" else "fp32"}
    options |= {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0}
    assert_resume_is_exact(options)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "model",
    [
        {"tie_embeddings": True},
        {"output_projection": 5},
        {"sum_layers": True},
        {"head": {"type": "mixture", "components": 3, "dropout": 0.3}, "tie_embeddings": True},
        {"head": {"type": "adaptive", "cutoffs": [4, 9]}},
        {"layer_sizes": [6, 4]},
    ],
    ids=["tied", "projection", "sum", "mixture", "adaptive", "sizes"],
)
def test_resume_is_bit_exact_for_heads_and_sizes(
    model: dict[str, Any], optimizer: str, fused: bool
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "learning_rate": OPTIMIZERS[optimizer]}
    assert_resume_is_exact({"cell": model, "fused": fused, "average": "ema", **settings})


def assert_resume_is_exact(options: dict[str, Any]) -> None:
    options = {"epochs": 2, **options}
    whole = make_trainer(**options)
    list(whole.records())
    trainer = make_trainer(**options)
    for stop in (3, 8, 13):  # mid-epoch, at the end of an epoch, mid-epoch after a decay
        for record in trainer.records():
            if isinstance(record, StepDone) and record.step >= stop:
                break
        saved = trainer.state_dict()
        trainer = make_trainer(**options)
        trainer.load_state_dict(saved)
    list(trainer.records())
    assert_same(weights(whole), weights(trainer))


@pytest.mark.parametrize(
    "cell",
    [
        {"cell": "lstm"},
        {"cell": "rnn"},
        {"cell": "gru"},
        {"cell": {"projection_size": 3}},
        {"cell": "janet"},
    ],
)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_hidden_state_stays_fp32_in_bf16_runs(cell: dict[str, Any], fused: bool) -> None:
    trainer = make_trainer(precision="bf16", cell=cell, fused=fused)
    next(trainer.records())
    saved = trainer.state_dict()
    assert {part.dtype for layer in saved["hidden_state"] for part in layer} == {torch.float32}
    make_trainer(precision="bf16", cell=cell, fused=fused).load_state_dict(saved)


def test_run_stopped_in_validation_repeats_the_validation() -> None:
    whole = make_trainer(epochs=2)
    whole_records = list(whole.records())
    trainer = make_trainer(epochs=2)
    seen = []
    for record in trainer.records():
        seen.append(record)
        if isinstance(record, Evaluating):
            break
    resumed = make_trainer(epochs=2)
    resumed.load_state_dict(trainer.state_dict())
    seen += resumed.records()
    assert_same(weights(whole), weights(resumed))
    assert without_times(seen) == without_times(whole_records)


@pytest.mark.parametrize("stops", [[3], [8], [12, 13], [24], [25]])
def test_resume_is_bit_exact_with_early_stopping(stops: list[int]) -> None:
    settings: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.03, "epochs": 12}
    settings |= {"schedule": "constant", "early_stopping": {"patience": 2}}
    whole = make_trainer(**settings)
    whole_records = list(whole.records())
    assert whole.train_state.epoch < 12
    assert whole.train_state.step > max(stops)
    trainer, records = train_with_stops(stops, **settings)
    assert_same_state(whole, trainer)
    assert without_times(records) == without_times(whole_records)


@pytest.mark.parametrize("stop", [20, 24, 27])
def test_resume_is_bit_exact_around_a_decay_of_plateau(stop: int) -> None:
    """The third epoch, steps 17 to 24, is worse than the second."""
    settings: dict[str, Any] = {"optimizer": "momentum", "learning_rate": 0.1, "epochs": 4}
    settings |= {"schedule": "plateau", "weight_decay": 0.01}
    whole = make_trainer(**settings)
    whole_records = list(whole.records())
    done = [record for record in whole_records if isinstance(record, EpochDone)]
    assert [record.learning_rate for record in done] == [0.1, 0.1, 0.1, 0.05]
    trainer, records = train_with_stops([stop], **settings)
    assert_same_state(whole, trainer)
    assert without_times(records) == without_times(whole_records)


# Learning rate and momentum change in every step.
CYCLE = {"type": "one_cycle", "low_momentum": 0.5}


# Mid-epoch and at the end of an epoch; the warm-up ends in the second epoch.
@pytest.mark.parametrize(
    ("optimizer", "schedule", "warmup_steps"),
    [
        *itertools.product(("sgd", "momentum", "adam"), ("tutorial", "cosine"), (0, 11)),
        *((optimizer, "linear", 11) for optimizer in OPTIMIZERS),
        *(
            (optimizer, CYCLE, 11)
            for optimizer in OPTIMIZERS
            if optimizer not in ("sgd", "rmsprop")
        ),
        ("rmsprop", "constant", 0),
        ("rmsprop", "constant", 11),
    ],
    ids=str,
)
def test_resume_is_bit_exact_for_every_optimizer_and_schedule(
    optimizer: str, schedule: Any, warmup_steps: int
) -> None:
    def make() -> Trainer:
        return make_trainer(
            optimizer=optimizer,
            learning_rate=OPTIMIZERS[optimizer],
            schedule=schedule,
            warmup_steps=warmup_steps,
            weight_decay=0.01,
            epochs=2,
        )

    whole = make()
    whole_records = list(whole.records())
    trainer, records = make(), []
    for stop in (3, 8, 13):
        for record in trainer.records():
            records.append(record)
            at_end = isinstance(record, EpochDone) and stop % 8 == 0
            if (isinstance(record, StepDone) and record.step == stop and stop % 8) or at_end:
                break
        file = io.BytesIO()
        torch.save(trainer.state_dict(), file)
        file.seek(0)
        trainer = make()
        trainer.load_state_dict(torch.load(file, weights_only=True))
    records += trainer.records()
    assert_same_state(whole, trainer)
    assert without_times(records) == without_times(whole_records)
