"""The neural cache equals a loop over the tokens before each token."""

import math

import pytest
import torch
from torch import Tensor

from ptblm.evaluation.scorers.neural_cache import NeuralCache
from ptblm.model.language_model import LanguageModel
from tests.evaluation.small_models import (
    VOCABULARY,
    log_probs_of,
    plain_log_probs,
    random_ids,
    small_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def features_of(model: LanguageModel, ids: Tensor) -> Tensor:
    """The features that predict each token but the first, token by token, [N, H]."""
    state, rows = model.initial_state(1), []
    with torch.no_grad():
        for token in ids[:-1]:
            features, state = model.features(token[None, None], state)
            rows.append(features[0, 0])
    return torch.stack(rows)


def cache_probs(
    features: Tensor, targets: list[int], window: int, theta: float
) -> list[list[float]]:
    """Grave et al. (2017), equation 3, over the last `window` tokens; one list per token."""
    rows = []
    for t in range(len(targets)):
        probs = [0.0] * VOCABULARY
        for i in range(max(0, t - window), t):
            probs[targets[i]] += math.exp(theta * float(features[t] @ features[i]))
        total = sum(probs)
        rows.append([each / total for each in probs] if total else probs)
    return rows


@pytest.mark.parametrize("window", [1, 5, 100])
@pytest.mark.parametrize("theta", [0.0, 0.7, 3.0])
def test_cache_equals_a_loop_over_tokens(window: int, theta: float) -> None:
    model, ids, weight = small_model(), random_ids(), 0.3
    expected = plain_log_probs(model, ids).exp()
    rows = cache_probs(features_of(model, ids), ids[1:].tolist(), window, theta)
    expected[1:] = (1 - weight) * expected[1:] + weight * torch.tensor(rows)[1:].double()
    cache = {"window": window, "theta": theta, "weight": weight}
    torch.testing.assert_close(
        log_probs_of([model], ids, cache=cache).exp(), expected, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("steps", [1, 2, 7, 59])
def test_chunks_do_not_change_the_cache(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = {"window": 10, "theta": 1.0, "weight": 0.5}
    expected = log_probs_of([small_model()], random_ids(), cache=cache)
    name = "ptblm.evaluation.scorers.pipeline.default_chunk_steps"
    monkeypatch.setattr(name, lambda _: steps)
    torch.testing.assert_close(log_probs_of([small_model()], random_ids(), cache=cache), expected)


def test_first_token_has_no_cache_and_second_has() -> None:
    """The cache is mixed as soon as it has an entry, not after a whole window."""
    model, ids = small_model(), random_ids()
    plain = plain_log_probs(model, ids)
    found = log_probs_of([model], ids, cache={"window": 50, "theta": 1.0, "weight": 0.25})
    torch.testing.assert_close(found[0], plain[0])
    expected = 0.75 * plain[1].exp()
    expected[ids[1]] += 0.25
    torch.testing.assert_close(found[1].exp(), expected)


def test_cache_of_an_ensemble_is_the_mean_of_caches() -> None:
    models, ids, shares = [small_model(0), small_model(1)], random_ids(), [0.25, 0.75]
    cache = {"window": 8, "theta": 1.0, "weight": 0.4}
    expected = torch.zeros(59, VOCABULARY).double()
    for model, share in zip(models, shares, strict=True):
        rows = cache_probs(features_of(model, ids), ids[1:].tolist(), 8, 1.0)
        both = 0.6 * plain_log_probs(model, ids).exp() + 0.4 * torch.tensor(rows).double()
        expected += share * both
    found = log_probs_of(models, ids, weights=shares, cache=cache).exp()
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-6, atol=0)


def test_keys_of_dropout_samples_are_not_dropped() -> None:
    """With Monte-Carlo dropout, the cache is that of the model without dropout."""
    model, ids = small_model(), random_ids()
    samples = {"samples": 2, "seed": 5}
    plain = log_probs_of([model], ids, monte_carlo=samples).exp()
    cache = {"window": 8, "theta": 1.0, "weight": 0.4}
    found = log_probs_of([model], ids, monte_carlo=samples, cache=cache).exp()
    rows = cache_probs(features_of(model, ids), ids[1:].tolist(), 8, 1.0)
    expected = 0.6 * plain + 0.4 * torch.tensor(rows).double()
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-6, atol=0)


def test_cache_keeps_only_its_window() -> None:
    cache = NeuralCache(window=3)
    for start in range(0, 10, 2):
        features = torch.arange(start, start + 2).double()[:, None]
        entries = cache.read(features, torch.tensor([start, start + 1]))
    assert entries.before == 3
    assert entries.tokens.tolist() == [5, 6, 7, 8, 9]
    # Token 9 has the entries 6, 7 and 8.
    assert (entries.attention(3, 1.0)[1] > 0).tolist() == [False, True, True, True, False]
