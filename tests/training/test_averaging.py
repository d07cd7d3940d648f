"""Averages of the weights: definitions, triggers, evaluation, unchanged training, exact resume."""

import copy
import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.backend.loss_scaler import LossScaler
from ptblm.checkpoint.structure import StructureMismatchError
from ptblm.config.averaging import EMAConfig, NTAverageConfig, TailAverageConfig
from ptblm.config.loading import load_config
from ptblm.errors import ConfigError, DivergedError
from ptblm.training import cuda_graph
from ptblm.training.averaging import has_started
from ptblm.training.divergence import check_finite
from ptblm.training.records import EpochDone, Evaluating, Record, StepDone
from ptblm.training.trainer import Trainer
from tests.training.small_trainer import (
    assert_same,
    assert_same_state,
    make_trainer,
    weights,
    without_times,
)
from tests.training.test_cuda_graph import replayed

STEPS = 8  # in an epoch
# One of each kind; the trigger of nt needs a rate that is too high.
AVERAGES: dict[str, dict[str, Any]] = {
    "ema": {"average": {"type": "ema", "decay": 0.9}},
    "tail": {"average": {"type": "tail", "start": 1.25}},
    "patience": {"average": {"type": "tail", "patience": 1}},
    "nt": {"average": {"type": "nt", "patience": 1}},
    "two_tailed": {"average": "two_tailed"},
}
UNSTABLE: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.05,
    "schedule": "constant",
    "epochs": 6,
}


def train(trainer: Trainer) -> tuple[list[dict[str, Tensor]], list[EpochDone]]:
    """Trains to the end; returns the weights after each step, and the epochs."""
    iterates, epochs = [], []
    for record in trainer.records():
        if isinstance(record, StepDone):
            iterates.append({name: value.double() for name, value in weights(trainer).items()})
        if isinstance(record, EpochDone):
            epochs.append(record)
    return iterates, epochs


def average_of(trainer: Trainer) -> dict[str, Tensor]:
    saved: dict[str, Tensor] = trainer.state_dict()["average"]
    return saved


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-6, atol=1e-6)


def mean(iterates: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([w[name] for w in iterates]).mean(0) for name in iterates[0]}


def valid_perplexity(state: dict[str, Tensor], **settings: Any) -> float:
    """Validates weights with a trainer that does not average."""
    trainer = make_trainer(**settings)
    trainer.model.load_state_dict(state)
    (*_, last) = trainer.evaluate("valid")
    assert isinstance(last, Evaluating)
    return last.score.perplexity


@pytest.mark.parametrize(
    ("start", "first"), [(0.0, 0), (0.5, 4), (1.0, 8), (1.26, 11), (2.9, 24), (3.0, 24)]
)
def test_tail_average_is_the_mean_of_all_later_iterates(start: float, first: int) -> None:
    trainer = make_trainer(average={"type": "tail", "start": start, "patience": None})
    iterates, epochs = train(trainer)
    counts = [max(0, STEPS * number - first) for number in (1, 2, 3)]
    assert [done.averaged for done in epochs] == counts
    if counts[-1]:
        assert_near(average_of(trainer), mean(iterates[first:]))
    else:
        assert average_of(trainer) == {}


def test_ema_weights_decay_and_sum_to_one() -> None:
    trainer = make_trainer(average={"type": "ema", "decay": 0.8})
    iterates, _ = train(trainer)
    last = len(iterates) - 1
    factors = torch.tensor([0.8 ** (last - index) for index in range(last + 1)]).double()
    factors /= factors.sum()
    expected = {
        name: sum(f * w[name] for f, w in zip(factors, iterates, strict=True))
        for name in iterates[0]
    }
    assert_near(average_of(trainer), expected)


@pytest.mark.parametrize(
    ("valid", "patience", "starts"),
    [
        ([], 1, False),
        ([9.0, 8.0, 7.0, 6.0], 1, False),
        ([9.0, 10.0], 1, False),  # the log is not longer than the patience
        ([9.0, 10.0, 9.5], 1, True),
        ([9.0, 10.0, 9.0], 1, False),  # equal to the best
        ([9.0, 7.0, 8.0], 1, False),  # better than all but the last epoch before it
        ([9.0, 7.0, 7.5, 8.0], 1, True),
        ([9.0, 7.0, 8.0, 8.5, 8.6], 3, False),
        ([9.0, 7.0, 8.0, 8.5, 8.6, 6.9], 3, False),
        ([9.0, 7.0, 8.0, 8.5, 8.6, 7.1], 3, True),
    ],
)
def test_nt_average_starts_as_in_awd_lstm(valid: list[float], patience: int, starts: bool) -> None:
    """Compared with the loop of main.py of AWD-LSTM."""
    assert has_started(NTAverageConfig(patience=patience), len(valid), valid) == starts
    log: list[float] = []
    triggered = False
    for value in valid:
        triggered = len(log) > patience and value > min(log[:-patience])
        log.append(value)
    assert triggered == starts


@pytest.mark.parametrize(
    ("start", "patience", "epochs", "valid", "starts"),
    [
        (None, 2, 0.0, [], False),
        (None, 2, 3.0, [5.0, 4.0, 4.0], False),
        (None, 2, 4.5, [5.0, 4.0, 4.0, 4.1], True),
        (2.5, None, 2.4, [5.0, 6.0], False),
        (2.5, None, 2.5, [5.0, 4.0], True),
        (9.0, 1, 2.0, [5.0, 6.0], True),  # whichever is first
        (2.0, 9, 2.0, [5.0, 6.0], True),
    ],
)
def test_tail_average_starts_at_an_epoch_or_after_patience(
    start: float | None, patience: int | None, epochs: float, valid: list[float], starts: bool
) -> None:
    config = TailAverageConfig(start=start, patience=patience)
    assert has_started(config, epochs, valid) == starts


def test_ema_starts_at_once() -> None:
    assert has_started(EMAConfig(), 0.0, [])


@pytest.mark.parametrize("name", AVERAGES)
def test_averaging_does_not_change_training(name: str) -> None:
    plain, averaged = make_trainer(**UNSTABLE), make_trainer(**UNSTABLE, **AVERAGES[name])
    before, _ = train(plain)
    after, epochs = train(averaged)
    assert_same_state(plain, averaged)
    for one, other in zip(before, after, strict=True):
        assert_same(one, other)
    assert epochs[-1].averaged > 0


@pytest.mark.parametrize("name", ["ema", "tail", "two_tailed"])
def test_plateau_uses_the_valid_perplexity_of_the_average(name: str) -> None:
    """Without an average, the epochs of these decays differ."""
    settings: dict[str, Any] = {**UNSTABLE, "schedule": "plateau"}
    _, plain = train(make_trainer(**settings))
    _, averaged = train(make_trainer(**settings, **AVERAGES[name]))
    for epochs in (plain, averaged):
        rate = 0.05
        for done in epochs:
            assert done.learning_rate == rate
            rate *= 1 if done.best else 0.5
    assert [done.learning_rate for done in plain] != [done.learning_rate for done in averaged]


@pytest.mark.parametrize("name", ["ema", "tail", "nt"])
def test_validation_and_test_use_the_average_once_it_exists(name: str) -> None:
    trainer = make_trainer(**UNSTABLE, **AVERAGES[name])
    for record in trainer.records():
        if isinstance(record, EpochDone):
            average = average_of(trainer)
            expected = valid_perplexity(average or weights(trainer))
            assert record.valid_perplexity == expected
            assert bool(record.averaged) == bool(average)
        elif isinstance(record, Evaluating) and record.split == "test":
            score = record.score
    (*_, last) = trainer.evaluate("test", trainer.model)
    assert isinstance(last, Evaluating)
    assert score.perplexity != last.score.perplexity


@pytest.mark.parametrize(
    ("tail", "early", "fits"),
    [
        ("{type: tail, patience: 3}", 3, False),
        ("tail", 2, False),  # the default patience is 5
        ("{type: tail, patience: 3}", 4, True),
        ("{type: tail, patience: 3, start: 2}", 3, True),
        ("{type: tail, patience: null, start: 2}", 3, True),
        ("{type: nt, patience: 3}", 1, False),
        ("{type: nt, patience: 3}", 2, True),  # after 9, 8, 7, 6, 5, 8.5
    ],
)
def test_average_that_never_starts_is_an_error(tail: str, early: int, fits: bool) -> None:
    """Training ends after as many epochs without a better perplexity."""
    overrides = [f"training.average={tail}", f"training.early_stopping.patience={early}"]
    if fits:
        load_config("small", overrides)
        return
    with pytest.raises(ConfigError) as caught:
        load_config("small", overrides)
    assert "training.average.patience: " in caught.value.what
    assert "early_stopping.patience" in caught.value.what


def test_early_stopping_uses_the_average() -> None:
    trainer = make_trainer(
        **{**UNSTABLE, "epochs": 50}, **AVERAGES["tail"], early_stopping={"patience": 2}
    )
    _, epochs = train(trainer)
    valid = [done.valid_perplexity for done in epochs]
    assert len(valid) < 50
    assert valid.index(min(valid)) == len(valid) - 3


def test_two_tailed_average_equals_algorithm_1_of_the_paper() -> None:
    """Melis 2022, algorithm 1, with lists of iterates instead of running averages."""
    trainer = make_trainer(**{**UNSTABLE, "epochs": 8}, **AVERAGES["two_tailed"])
    short: list[dict[str, Tensor]] = []
    long: list[dict[str, Tensor]] = []
    switches = []
    for record in trainer.records():
        if isinstance(record, StepDone):
            iterate = {name: value.double() for name, value in weights(trainer).items()}
            short, long = [*short, iterate], [*long, iterate]
        elif isinstance(record, EpochDone):
            of_short, of_long = (
                valid_perplexity({name: value.float() for name, value in mean(tail).items()})
                for tail in (short, long)
            )
            switches.append(of_short <= of_long)
            if switches[-1]:
                short, long, of_long = [], short, of_short
            assert record.valid_perplexity == pytest.approx(of_long, rel=1e-6)
            assert record.averaged == len(long)
            assert_near(average_of(trainer), mean(long))
    assert switches[0]  # both are the same mean then
    assert set(switches[1:]) == {True, False}


@cache
def trained(name: str) -> tuple[Trainer, list[Record]]:
    """A trainer that averages and was not interrupted, and its records."""
    trainer = make_trainer(**UNSTABLE, **AVERAGES[name])
    return trainer, list(trainer.records())


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("stop", [3, 12, 24, 45])
def test_resume_is_bit_exact_for_every_average(name: str, stop: int) -> None:
    """In the middle of an epoch and of an average, and before it starts."""
    settings = {**UNSTABLE, **AVERAGES[name]}
    whole, whole_records = trained(name)
    stopped = make_trainer(**settings)
    records = []
    for record in stopped.records():
        records.append(record)
        if isinstance(record, StepDone) and record.step == stop:
            break
    resumed = make_trainer(**settings)
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    records += resumed.records()
    assert_same_state(whole, resumed)
    assert without_times(records) == without_times(whole_records)
    saved, expected = resumed.state_dict(), whole.state_dict()
    assert saved["train_state"]["averaged"] == expected["train_state"]["averaged"]
    for group in ("average", "short_average"):
        assert_same(saved[group], expected[group])


@pytest.mark.parametrize("evaluation", [1, 2])
def test_state_saved_in_validation_is_that_of_training(evaluation: int) -> None:
    """The weights are not those of the average, and the validation is repeated."""
    settings = {**UNSTABLE, **AVERAGES["two_tailed"]}
    whole, whole_records = trained("two_tailed")
    stopped, records, seen = make_trainer(**settings), [], 0
    for record in stopped.records():
        records.append(record)
        if isinstance(record, Evaluating) and stopped.train_state.epoch == 2:
            seen += 1
            if seen == evaluation:
                break
    saved = stopped.state_dict()
    iterates, _ = train(make_trainer(**UNSTABLE))
    assert_same({k: v.double() for k, v in saved["model"].items()}, iterates[3 * STEPS - 1])
    resumed = make_trainer(**settings)
    resumed.load_state_dict(copy.deepcopy(saved))
    records += resumed.records()
    assert without_times(records) == without_times(whole_records)
    assert_same_state(whole, resumed)


def test_average_after_graphed_steps_equals_that_of_eager_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several graphed steps are read together, but each is an iterate."""
    monkeypatch.setattr(cuda_graph, "_STEPS_PER_SYNC", 5)
    eager, graphed = (
        make_trainer(**AVERAGES["tail"], capture=capture) for capture in (None, replayed)
    )
    _, expected = train(eager)
    _, found = train(graphed)
    assert [done.averaged for done in found] == [done.averaged for done in expected] == [0, 6, 14]
    assert_near(
        average_of(graphed), {name: value.double() for name, value in average_of(eager).items()}
    )


def test_updates_that_fp16_skips_are_not_averaged() -> None:
    trainer = make_trainer(average={"type": "tail", "start": 0.0})
    scaler = trainer.precision.scaler = LossScaler()
    scaler.scale = 2.0**74  # squares of gradients overflow fp32
    iterates, skipped = [], 0
    for record in trainer.records():
        if isinstance(record, StepDone):
            skipped += record.grad_norm is None
            if record.grad_norm is not None:
                iterates.append({k: v.double() for k, v in weights(trainer).items()})
    assert skipped > 0
    assert trainer.state_dict()["train_state"]["averaged"] == {"average": 3 * STEPS - skipped}
    assert_near(average_of(trainer), mean(iterates))


def test_tied_weights_are_averaged_once_and_stay_tied() -> None:
    settings: dict[str, Any] = {"cell": {"tie_embeddings": True}, **AVERAGES["tail"]}
    trainer, restored = make_trainer(**settings), make_trainer(**settings)
    iterates, _ = train(trainer)
    assert_near(average_of(trainer), mean(iterates[10:]))
    restored.load_state_dict(copy.deepcopy(trainer.state_dict()))
    for average in (trainer.averages.evaluated, restored.averages.evaluated):
        assert average is not None
        assert average.model.head.weight is average.model.embedding.weight
        assert torch.equal(average.model.head.weight, average_of(trainer)["embedding.weight"])


def test_average_that_is_not_finite_is_not_saved() -> None:
    trainer = make_trainer(**AVERAGES["ema"])
    next(trainer.records())
    check_finite(trainer)
    assert trainer.averages.evaluated is not None
    next(trainer.averages.evaluated.model.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="not finite"):
        check_finite(trainer)


def change_counts(counts: Any) -> Any:
    return lambda saved: saved["train_state"].update(averaged=counts)


@pytest.mark.parametrize(
    "change",
    [
        change_counts(None),
        change_counts({}),
        change_counts({"average": 11}),
        change_counts({"average": 0, "short_average": 0}),
        change_counts({"average": 12, "short_average": 3}),  # more than steps
        change_counts({"average": 3, "short_average": 11}),  # the short one is longer
        change_counts({"average": -1, "short_average": -1}),
        change_counts({"average": 11, "short_average": 3.0}),
        lambda saved: saved["average"].clear(),
        lambda saved: saved["short_average"].pop("head.bias"),
        lambda saved: saved["average"].update({"head.bias": torch.zeros(3)}),
        lambda saved: saved["average"].update({"head.bias": torch.zeros(13).double()}),
        lambda saved: saved["average"].update({"other": torch.zeros(3)}),
        lambda saved: saved.pop("short_average"),
    ],
    ids=range(14),
)
def test_every_part_of_a_saved_average_is_checked(change: Any) -> None:
    trainer = make_trainer(**AVERAGES["two_tailed"])
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = copy.deepcopy(trainer.state_dict())
    make_trainer(**AVERAGES["two_tailed"]).load_state_dict(copy.deepcopy(saved))
    change(saved)
    fresh = make_trainer(**AVERAGES["two_tailed"])
    before = weights(fresh)
    with pytest.raises(StructureMismatchError):
        fresh.load_state_dict(saved)
    assert_same(before, weights(fresh))
    assert average_of(fresh) == {}


def test_average_of_a_run_without_averaging_is_rejected() -> None:
    saved = []
    for settings in ({}, AVERAGES["ema"]):
        trainer = make_trainer(**settings)
        next(trainer.records())
        saved.append(trainer.state_dict())
    for state, settings in zip(saved, (AVERAGES["ema"], {}), strict=True):
        with pytest.raises(StructureMismatchError, match="averaged"):
            make_trainer(**settings).load_state_dict(state)
