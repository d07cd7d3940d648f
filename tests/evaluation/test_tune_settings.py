"""Values that are tried in one pass equal separate evaluations, and tuning finds what it should."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.config.evaluation import DynamicSettings, EvaluationSettings
from ptblm.evaluation.scorers.dynamic import gradient_rms
from ptblm.evaluation.scorers.pipeline import Pipeline, pipeline_scores
from ptblm.evaluation.setting_scores import (
    cache_nll,
    member_log_probs,
    temperature_nll,
)
from ptblm.evaluation.tune_settings import SettingsTuner, TuneOutcome, Wanted
from ptblm.model.language_model import LanguageModel
from tests.evaluation.small_models import log_probs_of, random_ids, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"rule": "sgd", "learning_rate": 0.1, "segment_length": 7}
BASES: list[dict[str, Any]] = [{}, {"monte_carlo": {"samples": 3}}, {"dynamic": SGD}]
BASES += [{"monte_carlo": {"samples": 2}, "dynamic": SGD, "weights": [0.2, 0.8]}]


def models_for(base: dict[str, Any]) -> list[LanguageModel]:
    return [small_model(seed) for seed in range(2 if "weights" in base else 1)]


def nll(models: list[LanguageModel], ids: Tensor, **settings: Any) -> float:
    found = log_probs_of(models, ids, **settings)
    return -float(found.gather(1, ids[1:, None]).sum())


def ignore(_: int) -> None:
    pass


@pytest.mark.parametrize("base", BASES)
def test_temperatures_of_one_pass_equal_separate_passes(base: dict[str, Any]) -> None:
    models, ids, temperatures = models_for(base), random_ids(), [0.5, 1.0, 1.7]
    pipeline = Pipeline(models, EvaluationSettings.model_validate(base), 35)
    found = temperature_nll(pipeline, ids, temperatures, ignore)
    expected = [nll(models, ids, **base, temperature=each) for each in temperatures]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("base", BASES)
def test_caches_of_one_pass_equal_separate_passes(base: dict[str, Any]) -> None:
    models, ids = models_for(base), random_ids()
    points = [(3.0, 1.0, 0.2), (20.0, 0.5, 0.2), (3.0, 1.0, 0.6), (20.0, 2.0, 0.1)]
    settings = {**base, "temperature": 0.8, "cache": {"window": 20}}
    pipeline = Pipeline(models, EvaluationSettings.model_validate(settings), 35)
    done: list[int] = []
    found = cache_nll(pipeline, ids, points, done.append)
    assert done[-1] == 59
    for value, (window, theta, weight) in zip(found, points, strict=True):
        cache = {"window": int(window), "theta": theta, "weight": weight}
        assert value == pytest.approx(nll(models, ids, **base, temperature=0.8, cache=cache))


def test_probabilities_of_members_are_those_of_the_models() -> None:
    models, ids = [small_model(0), small_model(1)], random_ids()
    settings = EvaluationSettings.model_validate(
        {"temperature": 0.8, "monte_carlo": {"samples": 3}}
    )
    found = member_log_probs(Pipeline(models, settings, 35), ids, ignore)
    for column, model in enumerate(models):
        alone = log_probs_of([model], ids, temperature=0.8, monte_carlo={"samples": 3})
        expected = alone.gather(1, ids[1:, None])[:, 0]
        torch.testing.assert_close(torch.from_numpy(found[:, column].copy()), expected)


def sampled_ids(model: LanguageModel, temperature: float, tokens: int) -> Tensor:
    """A text drawn from a model whose logits are divided by a temperature."""
    generator, ids, state = torch.Generator().manual_seed(3), [0], model.initial_state(1)
    with torch.no_grad():
        for _ in range(tokens - 1):
            features, state = model.features(torch.tensor([[ids[-1]]]), state)
            probs = (model.head.log_probs(features[0]) / temperature).softmax(1)
            ids.append(int(torch.multinomial(probs[0], 1, generator=generator)))
    return torch.tensor(ids)


def tune(
    models: list[LanguageModel],
    ids: Tensor,
    wanted: Wanted,
    start: EvaluationSettings | None = None,
) -> TuneOutcome:
    rms = [gradient_rms(model, random_ids(300).numpy(), 5) for model in models]

    def make_pipeline(settings: EvaluationSettings) -> Pipeline:
        return Pipeline(models, settings, 35, rms)

    tuner = SettingsTuner(make_pipeline, len(models), ids, lambda *_: None)
    outcome = tuner.tune(start or EvaluationSettings(), wanted)
    *_, score = pipeline_scores(make_pipeline(outcome.settings), ids)
    assert score.perplexity == pytest.approx(outcome.after)
    assert score.tokens == outcome.tokens
    return outcome


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_of_a_text_is_found(temperature: float) -> None:
    """3 is beyond the grid, which is widened."""
    model = small_model()
    outcome = tune([model], sampled_ids(model, temperature, 1000), Wanted())
    assert outcome.settings.temperature == pytest.approx(temperature, rel=0.2)
    assert outcome.after <= outcome.before
    assert outcome.edges == []


def test_everything_together_never_makes_the_text_less_probable() -> None:
    ids = sampled_ids(small_model(2), 1.0, 80)
    start = EvaluationSettings.model_validate({"monte_carlo": {"samples": 2}})
    dynamic = DynamicSettings(segment_length=20)
    outcome = tune([small_model(0), small_model(1)], ids, Wanted(dynamic, cache=True), start)
    keys = {key for each in outcome.tried for key in each}
    assert {"temperature", "dynamic.learning_rate", "dynamic.decay", "weights.0"} <= keys
    assert {"cache.window", "cache.theta", "cache.weight", "perplexity"} <= keys
    assert outcome.settings.monte_carlo == start.monte_carlo
    assert outcome.after <= min(
        each["perplexity"] for each in outcome.tried if "cache.weight" in each
    ) * (1 + 1e-9)
    assert math.isfinite(outcome.after)


def test_values_of_dynamic_evaluation_grow_with_the_segment() -> None:
    """As in the authors' code, whose values are for segments of five tokens."""
    model = small_model()
    ids = sampled_ids(small_model(2), 1.0, 80)
    outcome = tune([model], ids, Wanted(DynamicSettings(rule="sgd", segment_length=20)))
    decays = {k["dynamic.decay"]: k["perplexity"] for k in outcome.tried if "dynamic.decay" in k}
    assert {4 * 0.001, 4 * 0.002, 4 * 0.003, 4 * 0.005} <= decays.keys()
    # The rates were tried with the default decay.
    rates = [each["perplexity"] for each in outcome.tried if "dynamic.learning_rate" in each]
    assert min(rates) == decays[4 * DynamicSettings().decay]


def test_cache_that_does_not_help_is_left_out() -> None:
    """No token occurs twice, so the cache never contains the next one."""
    outcome = tune([small_model()], torch.randperm(7), Wanted(cache=True))
    assert outcome.settings.cache is None
    assert any("cache.weight" in each for each in outcome.tried)


def test_cache_of_a_text_that_repeats_is_found() -> None:
    """The model knows nothing, so only the cache can predict the text."""
    model = small_model()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    outcome = tune([model], torch.tensor([1, 1, 1, 2]).repeat(30), Wanted(cache=True))
    assert outcome.before == pytest.approx(7)
    assert outcome.after < 2.5
    assert outcome.settings.cache is not None
    assert outcome.settings.cache.weight > 0.5


def test_learning_rate_at_the_edge_is_reported() -> None:
    """A text that repeats is learned best with a rate beyond all widenings of the grid."""
    ids = random_ids(10).repeat(12)
    outcome = tune([small_model()], ids, Wanted(DynamicSettings()))
    assert "dynamic.learning_rate" in outcome.edges
    assert outcome.settings.dynamic is not None
    rates = [e["dynamic.learning_rate"] for e in outcome.tried if "dynamic.learning_rate" in e]
    assert outcome.settings.dynamic.learning_rate == max(rates) > 1e-4
