"""The loop: its records, its rates, and the stop before a bad update."""

import itertools

import pytest
import torch

from ptblm.backend.loss_scaler import LossScaler
from ptblm.backend.precision import Precision
from ptblm.backend.randomness import make_generator
from ptblm.config.model import ModelConfig
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import Batches, batchify
from ptblm.errors import DivergedError
from ptblm.evaluation.score import perplexity
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.training.optimizer import state_tensors
from ptblm.training.records import EpochDone, Evaluating, RunDone, StepDone
from ptblm.training.schedule import learning_rate
from ptblm.training.trainer import Trainer
from tests.training.small_trainer import OPTIMIZERS, VOCABULARY, assert_same, make_trainer, weights


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


def test_a_learned_state_learns() -> None:
    trainer = make_trainer(cell={"initial_state": "learned"})
    before = weights(trainer)
    next(trainer.records())
    learned = [name for name in before if "learned_state" in name]
    assert len(learned) == 4  # h and c of two layers
    after = weights(trainer)
    assert not any(torch.equal(before[name], after[name]) for name in learned)


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


def test_an_average_that_is_not_finite_is_not_saved() -> None:
    """A squared gradient overflows long before its gradient does, and its weight then rests."""
    trainer = make_trainer(optimizer="adam", learning_rate=0.01)
    next(trainer.records())
    trainer.refuse_divergence()
    state_tensors(trainer.optimizer)[-1][0] = float("inf")
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
    batches: Batches = batchify(cycle, 4, 10, "train")
    config = TrainingConfig(batch_size=4, num_steps=10, epochs=4)
    model = build_model(ModelConfig(hidden_size=16, num_layers=1), VOCABULARY)
    model.initialize(Initializer("uniform", 0.1), make_generator(0, "initial weights"))
    precision = Precision("fp32", torch.device("cpu"))
    trainer = Trainer(model, config, precision, train=batches, valid=batches, test=batches)
    *_, last = trainer.records()
    assert isinstance(last, RunDone)
    assert last.score.perplexity < 1.1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_overflow_under_loss_scaling_is_left_out_and_the_run_goes_on(optimizer: str) -> None:
    """fp16's logic on the CPU: a scale far too large is halved until gradients fit."""
    trainer = make_trainer(optimizer=optimizer, learning_rate=OPTIMIZERS[optimizer])
    scaler = trainer.precision.scaler = LossScaler()
    scaler.scale = 2.0**68  # beyond which squares of gradients overflow fp32
    before = weights(trainer)
    left_out = 0
    for record in trainer.records():
        if not isinstance(record, StepDone):
            break
        if record.grad_norm is None:
            left_out += 1
            assert_same(before, weights(trainer))
            assert not any(tensor.any() for tensor in state_tensors(trainer.optimizer))
    assert 0 < left_out < 8
    if optimizer == "adam":
        assert trainer.optimizer.state_dict()["updates"] == 8 - left_out
    assert not torch.equal(before["softmax.weight"], weights(trainer)["softmax.weight"])


def test_loss_scaling_does_not_change_the_training() -> None:
    """Powers of two scale without rounding."""
    plain, scaled = make_trainer(epochs=1), make_trainer(epochs=1)
    scaled.precision.scaler = LossScaler()
    list(plain.records())
    list(scaled.records())
    assert_same(weights(plain), weights(scaled))
