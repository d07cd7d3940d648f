"""Activation regularization (AR) and temporal activation regularization (TAR)."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.config.model import ModelConfig
from ptblm.config.training import TrainingConfig
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import StackOutput
from ptblm.training.records import EpochDone
from ptblm.training.regularizers import regularizers
from ptblm.training.trainer import Trainer
from tests.finite_differences import assert_gradients_match
from tests.training.small_trainer import make_trainer

AR, TAR = "activation_regularization", "temporal_activation_regularization"
VOCABULARY, BATCH, STEPS = 11, 3, 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_model(factors: dict[str, float], *, fused: bool = True) -> LanguageModel:
    config = ModelConfig.model_validate({"hidden_size": 6, "num_layers": 2, "dropout": 0.4})
    model = build_model(config, VOCABULARY, fused=fused).double()
    model.initialize(Initializer("uniform", 0.7), generator(1))
    model.loss_terms = regularizers(TrainingConfig.model_validate(factors))
    return model


def run(model: LanguageModel, scale: float = 1 / BATCH) -> tuple[Tensor, Tensor]:
    """The loss, as in a training step, and the negative log-likelihoods."""
    ids = torch.randint(VOCABULARY, (BATCH, STEPS + 1), generator=generator(2))
    state = model.initial_state(BATCH)
    loss, nll, _ = model(ids[:, :-1], ids[:, 1:], state, generator(), scale=scale)
    return loss, nll


def gradients(model: LanguageModel) -> dict[str, Tensor]:
    run(model)[0].backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


FACTORS: list[dict[str, float]] = [{AR: 2.0}, {TAR: 3.0}, {AR: 0.5, TAR: 0.7}]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_gradients_match_finite_differences(factors: dict[str, float], fused: bool) -> None:
    model = make_model(factors, fused=fused)
    assert_gradients_match(lambda: run(model)[0].item(), model, gradients(model))


@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_fused_equals_unfused(factors: dict[str, float]) -> None:
    fused, unfused = (make_model(factors, fused=fused) for fused in (True, False))
    assert (fused.recurrent.kernel, unfused.recurrent.kernel) == ("fused", "unfused")
    torch.testing.assert_close(run(fused)[0], run(unfused)[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(fused), gradients(unfused), rtol=1e-11, atol=1e-13)


def test_loss_is_num_steps_times_that_of_awd_lstm() -> None:
    """In AWD-LSTM: the mean loss, alpha * mean(dropped²), beta * mean((raw[1:] - raw[:-1])²).

    Its mean over T - 1 differences is replaced by the sum over them, divided by T.
    """
    alpha, beta = 2.0, 1.5
    model = make_model({AR: alpha, TAR: beta})
    ids = torch.randint(VOCABULARY, (BATCH, STEPS + 1), generator=generator(2))
    output = model._run_layers(ids[:, :-1], model.initial_state(BATCH), generator())
    dropped, raw = output.features, output.undropped
    loss, nll = run(model)
    theirs = nll.mean() + alpha * dropped.pow(2).mean()
    theirs += beta * (raw[1:] - raw[:-1]).pow(2).mean() * (STEPS - 1) / STEPS
    torch.testing.assert_close(loss, STEPS * theirs, rtol=1e-12, atol=0)
    assert (dropped == 0).any()
    assert not (raw == 0).any()


def terms(features: Tensor, undropped: Tensor, **factors: float) -> list[float]:
    found = regularizers(TrainingConfig.model_validate(factors))
    return [term(StackOutput(features, undropped, ())).item() for term in found]


def test_values_of_known_outputs() -> None:
    zeros, ones = torch.zeros(4, 3, 5), torch.ones(4, 3, 5)
    ramp = torch.arange(4.0)[:, None, None].expand(4, 3, 5)
    assert terms(ones, ramp) == []
    assert terms(2 * ones, zeros, **{AR: 0.5}) == [0.5 * 4 * 3 * 4]  # 4 steps, 3 streams, 2²
    assert terms(zeros, ramp, **{TAR: 0.5}) == [0.5 * 3 * 3 * 1]  # 3 differences, 3 streams
    assert terms(zeros, ones, **{TAR: 0.5}) == [0.0]
    assert terms(ones, ones[:1], **{TAR: 0.5}) == [0.0]  # a window of one step


def test_bf16_outputs_are_summed_in_fp32() -> None:
    x = torch.full((35, 20, 3), 0.1, dtype=torch.bfloat16)
    exact = 35 * 20 * x.double()[0, 0, 0].item() ** 2
    assert terms(x, x, **{AR: 1.0}) == pytest.approx([exact], rel=1e-6)


def test_reported_perplexity_is_without_the_terms() -> None:
    """With a learning rate of 0, the perplexities are those of a run without the terms."""

    def perplexities(**factors: Any) -> list[tuple[Any, ...]]:
        trainer = make_trainer(learning_rate=1e-30, epochs=1, **factors)
        records = [r for r in trainer.records() if isinstance(r, EpochDone)]
        return [(r.train_perplexity, r.valid_perplexity) for r in records]

    assert perplexities(**{AR: 100.0, TAR: 100.0}) == perplexities()


@pytest.mark.parametrize("factor", [AR, TAR])
def test_trainer_adds_the_term_of_its_config(factor: str) -> None:
    def trained(**factors: Any) -> Trainer:
        trainer = make_trainer(epochs=1, **factors)
        list(trainer.records())
        return trainer

    with_term = trained(**{factor: 0.5}).model.embedding.weight
    assert not torch.equal(with_term, trained().model.embedding.weight)
