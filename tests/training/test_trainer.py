"""The training loop: records, learning rates, and divergence."""

import itertools
from typing import Any

import pytest
import torch

from ptblm.backend.loss_scaler import LossScaler
from ptblm.backend.precision import Precision
from ptblm.backend.randomness import make_generator
from ptblm.config.model import ModelConfig
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import Batches, batchify
from ptblm.errors import DataError, DivergedError
from ptblm.evaluation.score import perplexity
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.training.divergence import check_finite
from ptblm.training.records import EpochDone, Evaluating, RunDone, StepDone
from ptblm.training.schedule import learning_rate, scheduled_momentum
from ptblm.training.trainer import Trainer
from tests.training.small_trainer import (
    OPTIMIZERS,
    VOCABULARY,
    assert_same,
    make_trainer,
    weights,
    without_times,
)


def test_order_of_records() -> None:
    records = list(make_trainer().records())
    kinds = [kind for kind, _ in itertools.groupby(records, key=type)]
    assert kinds == [StepDone, Evaluating, EpochDone] * 3 + [Evaluating, RunDone]
    steps = [record for record in records if isinstance(record, StepDone)]
    assert [record.step for record in steps] == list(range(1, 8 * 3 + 1))
    assert [record.batch for record in steps] == list(range(1, 9)) * 3


def test_perplexities_are_sums_divided_once() -> None:
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
    assert last.score is not None
    assert last.score.tokens == 39


def test_best_marks_the_lowest_validation_perplexity() -> None:
    done = [r for r in make_trainer(epochs=6).records() if isinstance(r, EpochDone)]
    lowest = float("inf")
    for record in done:
        assert record.best == (record.valid_perplexity < lowest)
        lowest = min(lowest, record.valid_perplexity)


def test_seed_determines_the_run() -> None:
    runs = []
    for seed in (5, 5, 6):
        trainer = make_trainer(seed)
        list(trainer.records())
        runs.append(weights(trainer))
    assert_same(runs[0], runs[1])
    assert not torch.equal(runs[0]["head.weight"], runs[2]["head.weight"])


def test_learned_initial_state_is_trained() -> None:
    trainer = make_trainer(cell={"initial_state": "learned"})
    before = weights(trainer)
    next(trainer.records())
    learned = [name for name in before if "learned_state" in name]
    assert len(learned) == 4  # h and c of two layers
    after = weights(trainer)
    assert not any(torch.equal(before[name], after[name]) for name in learned)


def test_every_step_has_the_rate_of_its_schedule() -> None:
    """With plateau, on a random text whose validation perplexity stops improving."""
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
            place["step"] = step.step - 1
            again = learning_rate(trainer.config, **place, valid=valid[:epoch])
            assert step.learning_rate == again
        assert record.learning_rate == steps[-1].learning_rate
        decays += not record.best
    assert decays > 0


def test_one_cycle_sets_the_momentum_of_each_step() -> None:
    trainer = make_trainer(
        optimizer="adam", learning_rate=0.01, schedule={"type": "one_cycle", "low_momentum": 0.5}
    )
    optimizer: Any = trainer.optimizer
    seen = []
    for record in trainer.records():
        if isinstance(record, StepDone):
            (group,) = optimizer._optimizer.param_groups
            place = {"epoch": record.epoch - 1, "batch": record.batch - 1, "batches": 8}
            assert group["betas"][0] == scheduled_momentum(trainer.config, **place)
            seen.append(group["betas"][0])
    assert len(seen) == 24
    assert (min(seen), max(seen)) == (0.5, 0.9)


def test_every_step_has_its_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dropout masks of a step depend on nothing else."""

    def seeds_of(seed: int) -> list[int]:
        trainer, seen = make_trainer(seed), []
        step = trainer.step

        def spy(*args: Any, **settings: Any) -> Any:
            seen.append(settings["seed"])
            return step(*args, **settings)

        monkeypatch.setattr(trainer, "step", spy)
        list(trainer.records())
        return seen

    seeds = seeds_of(5) + seeds_of(6)
    assert len(seeds) == len(set(seeds)) == 2 * 24


@pytest.mark.parametrize("is_tied", [False, True], ids=["untied", "tied"])
def test_gradient_of_a_tied_embedding_is_dense(is_tied: bool) -> None:
    """The softmax has a gradient for every word."""
    trainer = make_trainer(cell={"tie_embeddings": is_tied})
    assert trainer.model.embedding.sparse is not is_tied
    next(trainer.records())
    gradient = trainer.model.embedding.weight.grad
    assert gradient is not None
    assert gradient.is_sparse is not is_tied


def test_nonfinite_optimizer_state_is_a_divergence() -> None:
    """A squared gradient overflows long before the gradient; its weight then stops moving."""
    trainer = make_trainer(optimizer="adam", learning_rate=0.01)
    next(trainer.records())
    check_finite(trainer)
    trainer.optimizer.state_dict()["head.bias.exp_avg_sq"][0] = float("inf")
    with pytest.raises(DivergedError):
        check_finite(trainer)


def test_evaluation_changes_nothing() -> None:
    trainer = make_trainer()
    before = weights(trainer)
    for _ in trainer.evaluate("valid"):
        pass
    assert_same(before, weights(trainer))
    assert trainer.train_state.step == 0


def test_hidden_state_is_reset_at_the_start_of_an_epoch() -> None:
    trainer = make_trainer()
    for record in trainer.records():
        largest = max(part.abs().max().item() for layer in trainer.hidden_state for part in layer)
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
        trainer.model.head.bias[3] = bad
    before = weights(trainer)
    step = trainer.train_state.step
    with pytest.raises(DivergedError, match="training diverged") as caught:
        next(records)
    assert caught.value.exit_code == 5
    after = weights(trainer)
    for name in before:
        assert torch.equal(before[name].nan_to_num(), after[name].nan_to_num()), name
    assert trainer.train_state.step == step


def test_validation_that_is_not_finite_is_a_divergence() -> None:
    trainer = make_trainer()
    records = trainer.records()
    for record in records:
        if isinstance(record, StepDone) and record.batch == record.batches:
            break
    with torch.no_grad():
        trainer.model.head.bias[3] = float("nan")
    with pytest.raises(DivergedError) as caught:
        list(records)
    assert caught.value.what == (
        "training diverged: loss nan per token in validation, learning rate 1"
    )
    assert caught.value.where == "epoch 1, batch 8, step 8"


def test_run_without_a_test_text() -> None:
    trainer = make_trainer(test_tokens=None)
    *records, last = trainer.records()
    assert last == RunDone(24, None)
    assert not any(isinstance(r, Evaluating) and r.split == "test" for r in records)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_text_to_evaluate_on_has_at_least_two_tokens(split: str) -> None:
    one: dict[str, Any] = {f"{split}_tokens": 1}
    two: dict[str, Any] = {f"{split}_tokens": 2}
    with pytest.raises(DataError, match=f"the {split} split has fewer than two tokens"):
        make_trainer(**one)
    *_, last = make_trainer(**two).records()
    assert isinstance(last, RunDone)


def test_early_stopping_counts_epochs_without_improvement() -> None:
    """On a random text, which the model can only memorize."""
    settings: dict[str, Any] = {"epochs": 12, "optimizer": "adam", "learning_rate": 0.03}
    settings["schedule"] = "constant"
    whole = [r for r in make_trainer(**settings).records() if isinstance(r, EpochDone)]
    for patience in (1, 2, 3):
        trainer = make_trainer(**settings, early_stopping={"patience": patience})
        records = [r for r in trainer.records() if isinstance(r, EpochDone)]
        assert trainer.is_trained
        assert without_times(records) == without_times(whole[: len(records)])
        marks = "".join("*" if done.best else "." for done in records)
        assert len(marks) < 12
        assert marks.index("." * patience) == len(marks) - patience


def test_bf16_and_fp32_learn_alike() -> None:
    perplexities = []
    for precision in ("fp32", "bf16"):
        trainer = make_trainer(precision=precision)
        list(trainer.records())
        assert trainer.model.head.weight.dtype == torch.float32
        perplexities.append(trainer.train_state.history[-1].train_perplexity)
    assert perplexities[0] != perplexities[1]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=0.02)


def test_periodic_text_is_learned() -> None:
    cycle = torch.arange(2000, dtype=torch.int32).remainder(VOCABULARY).numpy()
    batches: Batches = batchify(cycle, 4, 10, "train")
    config = TrainingConfig(batch_size=4, num_steps=10, epochs=4)
    model = build_model(ModelConfig(hidden_size=16, num_layers=1), VOCABULARY)
    model.initialize(Initializer("uniform", 0.1), make_generator(0, "initial weights"))
    precision = Precision("fp32", torch.device("cpu"))
    trainer = Trainer(model, config, precision, train=batches, valid=cycle, test=cycle)
    *_, last = trainer.records()
    assert isinstance(last, RunDone)
    assert last.score is not None
    assert last.score.perplexity < 1.1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_overflow_skips_the_update_and_lowers_the_loss_scale(optimizer: str) -> None:
    """The logic of fp16, on the CPU: a scale far too large is halved until gradients fit."""
    trainer = make_trainer(optimizer=optimizer, learning_rate=OPTIMIZERS[optimizer])
    scaler = trainer.precision.scaler = LossScaler()
    scaler.scale = 2.0**74  # squares of gradients overflow fp32
    initial = before = weights(trainer)
    state = trainer.optimizer.state_dict()
    skipped = 0
    for record in trainer.records():
        if not isinstance(record, StepDone):
            break
        if record.grad_norm is None:
            skipped += 1
            assert_same(before, weights(trainer))
            assert_same(state, trainer.optimizer.state_dict())
        before = weights(trainer)
        state = {name: value.clone() for name, value in trainer.optimizer.state_dict().items()}
    assert 0 < skipped < 8
    if optimizer == "adam":
        assert trainer.optimizer.state_dict()["head.bias.step"] == 8 - skipped
    assert not torch.equal(initial["head.weight"], weights(trainer)["head.weight"])


def test_loss_scaling_does_not_change_the_result() -> None:
    """Powers of two scale without rounding."""
    unscaled, scaled = make_trainer(epochs=1), make_trainer(epochs=1)
    scaled.precision.scaler = LossScaler()
    list(unscaled.records())
    list(scaled.records())
    assert_same(weights(unscaled), weights(scaled))
