"""The loop: its records, exact resume from anywhere, and the stop before a bad update."""

import copy
import io
import itertools
from typing import Any

import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.config.schema import TrainingConfig
from ptblm.corpus.batches import Batches, cut_batches
from ptblm.errors import DivergedError
from ptblm.evaluation.score import perplexity
from ptblm.model import fused
from ptblm.model.build import build_model
from ptblm.model.initialisers import Initialiser
from ptblm.training.captured import Capture
from ptblm.training.loss_scaler import LossScaler
from ptblm.training.misfit import MisfitError
from ptblm.training.optimizer import kept_tensors
from ptblm.training.precision import Arithmetic
from ptblm.training.products import products_by
from ptblm.training.randomness import make_generator
from ptblm.training.records import EpochDone, Evaluating, RunDone, StepDone
from ptblm.training.schedule import learning_rate
from ptblm.training.trainer import Trainer

VOCABULARY = 13


def make_text(tokens: int, seed: int) -> Any:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (tokens,), generator=source, dtype=torch.int32).numpy()


def make_trainer(
    seed: int = 5,
    precision: str = "fp32",
    cell: dict[str, Any] | None = None,
    capture: Capture | None = None,
    **changes: Any,
) -> Trainer:
    settings: dict[str, Any] = {
        "batch_size": 3,
        "num_steps": 4,
        "epochs": 3,
        "full_rate_epochs": 1,
        "max_grad_norm": 0.5,
        "seed": seed,
    }
    config = TrainingConfig(**{**settings, **changes})
    model_config = ModelConfig(hidden_size=6, num_layers=2, dropout=0.3, **(cell or {}))
    model = build_model(model_config, VOCABULARY, plain=config.plain)
    model.initialise(Initialiser("uniform", 0.4), make_generator(seed, "initial weights"))
    return Trainer(
        model,
        config,
        Arithmetic(precision, torch.device("cpu")),
        train=cut_batches(make_text(100, 1), config.batch_size, config.num_steps, "train"),
        valid=cut_batches(make_text(60, 2), 3, 4, "valid"),
        test=cut_batches(make_text(40, 3), 1, 1, "test"),
        capture=capture,
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def without_times(records: list[Any]) -> list[Any]:
    return [
        {k: v for k, v in vars(r).items() if "second" not in k}
        for r in records
        if not isinstance(r, Evaluating)
    ]


def test_the_order_of_records() -> None:
    records = list(make_trainer().records())
    kinds = [kind for kind, _ in itertools.groupby(records, key=type)]
    assert kinds == [StepDone, Evaluating, EpochDone] * 3 + [Evaluating, RunDone]
    steps = [record for record in records if isinstance(record, StepDone)]
    assert [record.step for record in steps] == list(range(1, 8 * 3 + 1))
    assert [record.batch for record in steps] == list(range(1, 9)) * 3


def test_figures_are_sums_divided_once() -> None:
    records = list(make_trainer().records())
    for epoch in (1, 2, 3):
        steps = [r for r in records if isinstance(r, StepDone) and r.epoch == epoch]
        (done,) = [r for r in records if isinstance(r, EpochDone) and r.epoch == epoch]
        nll = sum(record.nll for record in steps)
        tokens = sum(record.tokens for record in steps)
        assert tokens == 8 * 12
        assert done.train_perplexity == pytest.approx(perplexity(nll, tokens), rel=1e-12)
    last = records[-1]
    assert isinstance(last, RunDone)
    assert last.score.tokens == 39


def test_best_is_the_lowest_valid_perplexity_so_far() -> None:
    done = [r for r in make_trainer(epochs=6).records() if isinstance(r, EpochDone)]
    lowest = float("inf")
    for record in done:
        assert record.best == (record.valid_perplexity < lowest)
        lowest = min(lowest, record.valid_perplexity)


def test_the_seed_decides_the_run() -> None:
    runs = []
    for seed in (5, 5, 6):
        trainer = make_trainer(seed)
        list(trainer.records())
        runs.append(weights(trainer))
    assert_same(runs[0], runs[1])
    assert not torch.equal(runs[0]["softmax.weight"], runs[2]["softmax.weight"])


# Mid-epoch, at an epoch's last step, just before a decay, at the first step, at the very end.
@pytest.mark.parametrize("stops", [[3], [8], [7, 8, 9], [1], [16, 17], [23], [24], [2, 2, 20]])
def test_a_run_that_was_stopped_equals_one_that_was_not(stops: list[int]) -> None:
    whole = make_trainer()
    whole_records = list(whole.records())

    trainer = make_trainer()
    records: list[Any] = []
    for stop in stops:
        for record in trainer.records():
            records.append(record)
            if isinstance(record, StepDone) and record.step >= stop:
                break
        saved = trainer.state_dict()
        trainer = make_trainer()
        trainer.load_state_dict(saved)
    records += trainer.records()
    assert_same(weights(whole), weights(trainer))
    # A stop that is reached already makes one step more before it is heeded.
    assert without_times(records) == without_times(whole_records)


@pytest.mark.parametrize("start", ["zeros", "learned"])
@pytest.mark.parametrize("way", ["fast", "plain", "onednn", "bf16"])
@pytest.mark.parametrize("cell", ["lstm", "rnn", "gru", "slstm", "janet", "mogrifier"])
def test_every_cell_resumes_exactly(
    cell: str, way: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_MIXED_PAYS", 1)
    options: dict[str, Any] = {"cell": {"cell": cell, "initial_state": start}}
    options |= {"plain": way == "plain", "precision": "bf16" if way == "bf16" else "fp32"}
    with products_by("onednn" if way == "onednn" else "torch"):
        assert_resumes_exactly(options)


def assert_resumes_exactly(options: dict[str, Any]) -> None:
    whole = make_trainer(**options)
    list(whole.records())
    trainer = make_trainer(**options)
    for stop in (3, 8, 17):  # mid-epoch, at an epoch's end, at another's start
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
    [{"cell": "lstm"}, {"cell": "rnn"}, {"cell": "gru"}, {"projection_size": 3}, {"cell": "janet"}],
)
@pytest.mark.parametrize("plain", [False, True], ids=["fused", "plain"])
def test_the_carried_state_keeps_its_precision(cell: dict[str, Any], plain: bool) -> None:
    """Whatever the products' precision: a checkpoint holds no other."""
    trainer = make_trainer(precision="bf16", cell=cell, plain=plain)
    next(trainer.records())
    saved = trainer.state_dict()
    assert {part.dtype for layer in saved["state"] for part in layer} == {torch.float32}
    make_trainer(precision="bf16", cell=cell, plain=plain).load_state_dict(saved)


def test_a_learned_state_learns() -> None:
    trainer = make_trainer(cell={"initial_state": "learned"})
    before = weights(trainer)
    next(trainer.records())
    learned = [name for name in before if "learned_state" in name]
    assert len(learned) == 4  # h and c of two layers
    after = weights(trainer)
    assert not any(torch.equal(before[name], after[name]) for name in learned)


def test_a_run_that_was_stopped_in_validation_validates_again() -> None:
    whole = make_trainer()
    whole_records = list(whole.records())
    trainer = make_trainer()
    seen = []
    for record in trainer.records():
        seen.append(record)
        if isinstance(record, Evaluating):
            break
    resumed = make_trainer()
    resumed.load_state_dict(trainer.state_dict())
    seen += resumed.records()
    assert_same(weights(whole), weights(resumed))
    assert without_times(seen) == without_times(whole_records)


OPTIMIZERS = {"sgd": 1.0, "momentum": 0.1, "adam": 0.01, "rmsprop": 0.01}


# Mid-epoch, and at an epoch's end; the warm-up ends in the second epoch.
@pytest.mark.parametrize("warmup_steps", [0, 11])
@pytest.mark.parametrize("schedule", ["tutorial", "plateau", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_optimizer_and_schedule_goes_on_as_if_it_had_not_stopped(
    optimizer: str, schedule: str, warmup_steps: int
) -> None:
    def make() -> Trainer:
        return make_trainer(
            optimizer=optimizer,
            learning_rate=OPTIMIZERS[optimizer],
            schedule=schedule,
            warmup_steps=warmup_steps,
        )

    whole = make()
    whole_records = list(whole.records())
    trainer, records = make(), []
    for stop in (3, 8, 10, 13, 16, 20):
        for record in trainer.records():
            records.append(record)
            at_an_end = isinstance(record, EpochDone) and stop % 8 == 0
            if (isinstance(record, StepDone) and record.step == stop and stop % 8) or at_an_end:
                break
        file = io.BytesIO()
        torch.save(trainer.state_dict(), file)
        file.seek(0)
        trainer = make()
        trainer.load_state_dict(torch.load(file, weights_only=True))
    records += trainer.records()
    assert_same(weights(whole), weights(trainer))
    assert without_times(records) == without_times(whole_records)
    ours, theirs = kept_tensors(trainer.optimizer), kept_tensors(whole.optimizer)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_every_step_has_its_schedules_rate() -> None:
    """The plateau's, whose epochs must be better than the best: this text can't be learnt."""
    trainer = make_trainer(
        epochs=6, optimizer="momentum", learning_rate=0.5, schedule="plateau", warmup_steps=10
    )
    records = list(trainer.records())
    done = [record for record in records if isinstance(record, EpochDone)]
    valid = [record.valid_perplexity for record in done]
    decays = 0
    for epoch, record in enumerate(done):
        steps = [r for r in records if isinstance(r, StepDone) and r.epoch == epoch + 1]
        full = 0.5 * 0.5**decays
        for step in steps:
            assert step.learning_rate == full * min(1.0, step.step / 10)
            place = {"epoch": epoch, "batch": step.batch - 1, "batches": 8}
            again = learning_rate(trainer.config, **place, valid=valid[:epoch])
            assert step.learning_rate == again
        assert record.learning_rate == steps[-1].learning_rate
        decays += not record.best
    assert decays > 0


def paths(saved: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every key of a nested dict and of every part of its lists."""
    if isinstance(saved, dict | list):
        parts = saved.items() if isinstance(saved, dict) else enumerate(saved)
        inner = [found for key, value in parts for found in paths(value, (*path, key))]
        keys = saved if isinstance(saved, dict) else range(len(saved))
        return [(*path, key) for key in keys] + inner
    return []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_key_of_the_state_is_needed(optimizer: str) -> None:
    """Whatever is missing at whatever depth: refused, and the trainer is as before."""
    trainer = make_trainer(optimizer=optimizer, learning_rate=OPTIMIZERS[optimizer])
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = trainer.state_dict()
    all_paths = paths(saved)
    assert len(all_paths) > 25
    for path in all_paths:
        incomplete = copy.deepcopy(saved)
        inner = incomplete
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        fresh = make_trainer(optimizer=optimizer)
        before = weights(fresh)
        with pytest.raises(MisfitError):
            fresh.load_state_dict(incomplete)
        assert_same(before, weights(fresh))
        assert not any(tensor.any() for tensor in kept_tensors(fresh.optimizer))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("position", "epoch"), "a"),
        (("position", "step"), 0),
        (("position", "batch"), 100),
        (("position", "nll"), None),
        (("position", "nll"), float("nan")),
        (("position", "seconds"), float("nan")),
        (("position", "seconds"), -1.0),
        (("position", "tokens"), 10**400),
        (("position", "tokens"), 0),
        (("position", "history"), []),
        (("position", "history", 0, "best"), 1),
        (("state",), []),
        (("state", 0, 0), torch.zeros(2, 6)),
        (("model", "softmax.bias"), torch.zeros(3)),
        (("model", "softmax.bias"), torch.zeros(VOCABULARY, dtype=torch.int64)),
        (("optimizer",), {"momentum": 1.0}),
    ],
    ids=range(16),
)
def test_each_part_of_the_state_must_fit(path: tuple[Any, ...], value: Any) -> None:
    trainer = make_trainer()
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = copy.deepcopy(trainer.state_dict())
    inner = saved
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(MisfitError):
        make_trainer().load_state_dict(saved)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("updates",), -1),
        (("updates",), 12),
        (("updates",), 10**400),
        (("updates",), 3.0),
        (("mean", 0), torch.zeros(VOCABULARY, 5)),
        (("mean_square", 1), None),
        (("velocity",), []),
    ],
    ids=range(7),
)
def test_each_part_of_the_optimizers_state_must_fit(path: tuple[Any, ...], value: Any) -> None:
    trainer = make_trainer(optimizer="adam", learning_rate=0.01)
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = copy.deepcopy(trainer.state_dict())
    make_trainer(optimizer="adam").load_state_dict(saved)
    inner = saved["optimizer"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(MisfitError):
        make_trainer(optimizer="adam").load_state_dict(saved)


def test_another_optimizers_state_is_refused() -> None:
    for ours, theirs in itertools.permutations(OPTIMIZERS, 2):
        with pytest.raises(MisfitError, match="optimizer"):
            make_trainer(optimizer=ours).load_state_dict(
                make_trainer(optimizer=theirs).state_dict()
            )


def test_an_average_that_is_not_finite_is_not_saved() -> None:
    """A squared gradient overflows long before its gradient does, and its weight then rests."""
    trainer = make_trainer(optimizer="adam", learning_rate=0.01)
    next(trainer.records())
    trainer.refuse_divergence()
    kept_tensors(trainer.optimizer)[-1][0] = float("inf")
    with pytest.raises(DivergedError):
        trainer.refuse_divergence()


def test_evaluation_leaves_the_weights_and_the_run_as_they_were() -> None:
    trainer = make_trainer()
    before = weights(trainer)
    for _ in trainer._evaluate("valid"):
        pass
    assert_same(before, weights(trainer))
    assert trainer.position.step == 0


def test_the_state_is_zero_at_an_epochs_start_only() -> None:
    trainer = make_trainer()
    for record in trainer.records():
        largest = max(part.abs().max().item() for layer in trainer.state for part in layer)
        if isinstance(record, StepDone):
            assert largest > 0
        elif isinstance(record, EpochDone):
            assert largest == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_stops_before_the_update(bad: float) -> None:
    trainer = make_trainer()
    records = trainer.records()
    next(records)
    with torch.no_grad():
        trainer.model.softmax.bias[3] = bad
    before = weights(trainer)
    step = trainer.position.step
    with pytest.raises(DivergedError, match="training diverged") as caught:
        next(records)
    assert caught.value.exit_code == 5
    after = weights(trainer)
    for name in before:
        assert torch.equal(before[name].nan_to_num(), after[name].nan_to_num()), name
    assert trainer.position.step == step


def test_bf16_learns_as_fp32_does_nearly() -> None:
    figures = []
    for precision in ("fp32", "bf16"):
        trainer = make_trainer(precision=precision)
        list(trainer.records())
        assert trainer.model.softmax.weight.dtype == torch.float32
        figures.append(trainer.position.history[-1].train_perplexity)
    assert figures[0] != figures[1]
    assert figures[1] == pytest.approx(figures[0], rel=0.02)


def test_a_learnable_text_is_learnt() -> None:
    cycle = torch.arange(2000, dtype=torch.int32).remainder(VOCABULARY).numpy()
    batches: Batches = cut_batches(cycle, 4, 10, "train")
    config = TrainingConfig(batch_size=4, num_steps=10, epochs=4, full_rate_epochs=4)
    model = build_model(ModelConfig(hidden_size=16, num_layers=1), VOCABULARY)
    model.initialise(Initialiser("uniform", 0.1), make_generator(0, "initial weights"))
    arithmetic = Arithmetic("fp32", torch.device("cpu"))
    trainer = Trainer(model, config, arithmetic, train=batches, valid=batches, test=batches)
    *_, last = trainer.records()
    assert isinstance(last, RunDone)
    assert last.score.perplexity < 1.1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_overflow_under_loss_scaling_is_left_out_and_the_run_goes_on(optimizer: str) -> None:
    """fp16's logic on the CPU: a scale far too large is halved until gradients fit."""
    trainer = make_trainer(optimizer=optimizer, learning_rate=OPTIMIZERS[optimizer])
    scaler = trainer.arithmetic.scaler = LossScaler()
    scaler.scale = 2.0**68  # beyond which squares of gradients overflow fp32
    before = weights(trainer)
    left_out = 0
    for record in trainer.records():
        if not isinstance(record, StepDone):
            break
        if record.grad_norm is None:
            left_out += 1
            assert_same(before, weights(trainer))
            assert not any(tensor.any() for tensor in kept_tensors(trainer.optimizer))
    assert 0 < left_out < 8
    if optimizer == "adam":
        assert trainer.optimizer.state_dict()["updates"] == 8 - left_out
    assert not torch.equal(before["softmax.weight"], weights(trainer)["softmax.weight"])


def test_loss_scaling_does_not_change_the_training() -> None:
    """Powers of two scale without rounding."""
    plain, scaled = make_trainer(epochs=1), make_trainer(epochs=1)
    scaled.arithmetic.scaler = LossScaler()
    list(plain.records())
    list(scaled.records())
    assert_same(weights(plain), weights(scaled))
