"""Scorers: neutral settings change nothing, and the settings equal loops over single tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.backend.randomness import derive_seed
from ptblm.config.evaluation import EvaluationSettings
from ptblm.config.model import ModelConfig
from ptblm.evaluation.scorer import running_scores
from ptblm.evaluation.scorers.dynamic import gradient_rms
from ptblm.evaluation.scorers.pipeline import Pipeline, pipeline_scores
from ptblm.evaluation.scorers.reader import ModelReader, has_dropout
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from tests.evaluation.small_models import (
    VOCABULARY,
    all_log_probs,
    log_probs_of,
    plain_log_probs,
    random_ids,
    small_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# Each stage alone, and all of them.
STAGES: dict[str, dict[str, Any]] = {
    "static": {},
    "temperature": {"temperature": 0.7},
    "Monte-Carlo": {"monte_carlo": {"samples": 3}},
    "cache": {"cache": {"window": 5, "theta": 0.7, "weight": 0.3}},
    "dynamic, sgd": {"dynamic": {"rule": "sgd", "learning_rate": 0.3, "segment_length": 4}},
    "dynamic, rms": {"dynamic": {"learning_rate": 0.01, "decay": 0.1, "segment_length": 4}},
}
STAGES["all"] = {key: value for stage in STAGES.values() for key, value in stage.items()}


def staged_pipeline(models: list[LanguageModel], stage: str) -> Pipeline:
    """With the statistics of the gradient, which rule `rms` needs."""
    settings = EvaluationSettings.model_validate(STAGES[stage])
    uses_rms = settings.dynamic is not None and settings.dynamic.rule == "rms"
    training_ids = random_ids(300, seed=2).numpy()
    rms = [gradient_rms(model, training_ids, 5) for model in models] if uses_rms else None
    return Pipeline(models, settings, 35, rms)


def staged_log_probs(models: list[LanguageModel], ids: Tensor, stage: str) -> Tensor:
    return all_log_probs(staged_pipeline(models, stage), ids)


@pytest.mark.parametrize("cell", ["lstm", "gru", "mogrifier", "rlstm", "sru"])
def test_neutral_pipeline_equals_static_bit_for_bit(cell: str) -> None:
    """Only the temperature and the mean over models run; `active` removes all other stages."""
    model, ids = small_model(cell=cell).float(), random_ids(200)
    *_, static = running_scores(model, ids, special_ids={"<unk>": 3})
    neutral = EvaluationSettings(temperature=1.0, weights=[1.0])
    *_, found = pipeline_scores(Pipeline([model], neutral, 35), ids, {"<unk>": 3})
    assert found == static


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"monte_carlo": {"samples": 0}},
        {"cache": {"weight": 0.0}},
        {"dynamic": {"learning_rate": 0.0, "decay": 0.5}},
    ],
)
def test_settings_that_change_nothing_are_static(settings: dict[str, Any]) -> None:
    assert EvaluationSettings.model_validate(settings).is_static()


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "static"])
def test_settings_that_change_something_are_not_static(stage: str) -> None:
    assert not EvaluationSettings.model_validate(STAGES[stage]).is_static()


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_probabilities_sum_to_one(stage: str, models: int) -> None:
    found = staged_log_probs([small_model(seed) for seed in range(models)], random_ids(), stage)
    assert found.shape == (59, VOCABULARY)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(59).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stage", STAGES)
def test_stages_apply_to_an_adaptive_softmax(stage: str) -> None:
    model = small_model(head={"type": "adaptive", "cutoffs": [2, 4], "div_value": 2.0})
    found = staged_log_probs([model], random_ids(), stage)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(59).double(), rtol=0, atol=1e-12)
    assert (stage == "static") == torch.allclose(found, plain_log_probs(model, random_ids()))


@pytest.mark.parametrize("stage", STAGES)
def test_probabilities_of_many_words_sum_to_one_in_fp32(stage: str) -> None:
    config = ModelConfig.model_validate({"hidden_size": 4, "num_layers": 1, "dropout": 0.5})
    models = [build_model(config, 10_000) for _ in range(2)]
    for seed, model in enumerate(models):
        model.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(seed))
    found = staged_log_probs([model.eval() for model in models], random_ids(), stage)
    assert found.dtype == torch.float32
    sums = found.double().exp().sum(1)
    torch.testing.assert_close(sums, torch.ones(59).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_token_does_not_change_predictions_before_it(stage: str, models: int) -> None:
    """Every token is scored before cache and weights adapt to it."""
    ids = random_ids(40)
    before = staged_log_probs([small_model(seed) for seed in range(models)], ids, stage)
    for position in (1, 2, 3, 4, 5, 20, 39):
        changed = ids.clone()
        changed[position] = (changed[position] + 1) % VOCABULARY
        after = staged_log_probs([small_model(seed) for seed in range(models)], changed, stage)
        assert torch.equal(after[:position], before[:position])
        if position < 39:
            assert not torch.equal(after[position], before[position])


@pytest.mark.parametrize("stage", STAGES)
def test_loaded_model_is_not_modified(stage: str) -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pipeline = staged_pipeline([model], stage)
    first = all_log_probs(pipeline, random_ids())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    # A new text starts with the trained weights, an empty cache and the same masks.
    assert torch.equal(all_log_probs(pipeline, random_ids()), first)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_logits(temperature: float) -> None:
    model, ids = small_model(), random_ids()
    powers = plain_log_probs(model, ids).exp() ** (1 / temperature)
    expected = powers / powers.sum(1, keepdim=True)
    found = log_probs_of([model], ids, temperature=temperature)
    torch.testing.assert_close(found.exp(), expected)


def test_ensemble_is_mean_of_probabilities() -> None:
    models, ids = [small_model(seed) for seed in range(3)], random_ids()
    probs = torch.stack([plain_log_probs(model, ids).exp() for model in models])
    torch.testing.assert_close(log_probs_of(models, ids).exp(), probs.mean(0))
    weights = [0.5, 0.3, 0.2]
    expected = sum(w * p for w, p in zip(weights, probs, strict=True))
    torch.testing.assert_close(log_probs_of(models, ids, weights=weights).exp(), expected)
    alone = log_probs_of(models, ids, weights=[0.0, 1.0, 0.0])
    torch.testing.assert_close(alone.exp(), probs[1])


def sampled_probs(model: LanguageModel, ids: Tensor, sample: int, window: int, seed: int) -> Tensor:
    """The probabilities of one dropout sample, whose masks are drawn for each window."""
    state, rows, generator = model.initial_state(1), [], torch.Generator()
    with torch.no_grad():
        for chunk, inputs in enumerate(ids[:-1].split(window)):
            generator.manual_seed(derive_seed(seed, f"Monte-Carlo sample {sample}", chunk))
            features, state = model.features(inputs[None], state, generator)
            rows.append(model.head.log_probs(features, generator)[:, 0].exp())
    return torch.cat(rows)


DROPOUTS: list[Any] = [0.5, {"input": 0.4, "locked": True}, {"embedding": 0.4}]
DROPOUTS += [{"recurrent_weights": 0.5}, {"recurrent_state": 0.3}]
MIXTURE = {"type": "mixture", "components": 3, "dropout": 0.5}


@pytest.mark.parametrize("dropout", DROPOUTS)
@pytest.mark.parametrize(("window", "seed"), [(7, 0), (35, 3)])
def test_monte_carlo_is_mean_over_samples(window: int, seed: int, dropout: Any) -> None:
    """Each sample carries its own hidden state; the probabilities are averaged, not their logs."""
    ids, model = random_ids(), small_model(dropout=dropout)
    samples = [sampled_probs(model, ids, sample, window, seed) for sample in range(4)]
    settings = {"samples": 4, "seed": seed}
    found = log_probs_of([model], ids, window, monte_carlo=settings)
    torch.testing.assert_close(found.exp(), torch.stack(samples).mean(0))
    assert not torch.allclose(samples[0], samples[1])


def test_samples_of_a_mixture_of_softmaxes_drop_latents() -> None:
    """One mask for all time steps of a window, as in the loss of training."""
    model, ids = small_model(dropout=0.0, head=MIXTURE), random_ids()
    assert has_dropout(model)
    state, generator = model.initial_state(1), torch.Generator()
    generator.manual_seed(derive_seed(0, "Monte-Carlo sample 0", 0))
    with torch.no_grad():
        features, _ = model.features(ids[None, :-1], state, generator)
        _, nll = model.head.loss(features, ids[1:, None], 1.0, generator)
    found = log_probs_of([model], ids, 100, monte_carlo={"samples": 1})
    torch.testing.assert_close(-found.gather(1, ids[1:, None]), nll.view(-1, 1))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(59).double())


def test_samples_take_memory_only_once_they_are_drawn() -> None:
    """All start with one state, so that the number in a file of settings allocates nothing."""
    reader = ModelReader(small_model(), samples=10_000)
    storages = {part.data_ptr() for state in reader._sampled_states for part in state[0]}
    assert len(storages) == 2  # h and c


def test_monte_carlo_seed_decides_masks() -> None:
    ids, model = random_ids(), small_model()
    first, again, other = (
        log_probs_of([model], ids, monte_carlo={"samples": 2, "seed": seed}) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_temperature_applies_before_the_mean() -> None:
    """The mean of tempered probabilities differs from the tempered mean."""
    models, ids = [small_model(0), small_model(1)], random_ids()
    each = [log_probs_of([model], ids, temperature=0.5).exp() for model in models]
    found = log_probs_of(models, ids, temperature=0.5).exp()
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)


@pytest.mark.parametrize("dropout", DROPOUTS)
def test_dropout_is_found_by_its_effect(dropout: Any) -> None:
    assert has_dropout(small_model(dropout=dropout))
    assert not has_dropout(small_model(dropout=0.0))


@pytest.mark.parametrize("stage", STAGES)
def test_state_does_not_grow_with_the_text(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scorer keeps after 800 tokens is as large as after 200."""
    name = "ptblm.evaluation.scorers.pipeline.default_chunk_steps"
    monkeypatch.setattr(name, lambda _: 50)
    pipeline = staged_pipeline([small_model()], stage)
    sizes = []
    for tokens in (201, 801):
        scorer = pipeline.start()
        for start in range(0, tokens - 1, pipeline.steps):
            ids = random_ids(pipeline.steps + 1, seed=start)
            scorer(ids[:-1], ids[1:])
        sizes.append(total_elements(scorer))
    assert sizes[0] == sizes[1] > 0


def total_elements(value: Any) -> int:
    """The elements of all tensors that an object refers to."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, torch.nn.Module):
        return sum(each.numel() for each in value.state_dict().values())
    if isinstance(value, list | tuple):
        return sum(map(total_elements, value))
    if type(value).__module__.startswith("ptblm.evaluation"):
        return sum(map(total_elements, vars(value).values()))
    return 0
