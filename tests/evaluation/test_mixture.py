"""Mixtures of models: their weights, impossible words, and KenLM as the other model."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptblm.corpus.ngram_scores import read_other_scores
from ptblm.evaluation.mixture import mixture, mixture_weight, mixture_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "nbest"


@pytest.mark.parametrize("weight", [0.1, 0.37, 0.5, 0.92])
def test_weight_of_two_unigram_models_is_found(weight: float) -> None:
    """The counts of the text are in proportion to the mixture, which is then its best model."""
    first = np.array([0.6, 0.2, 0.15, 0.05])
    second = np.array([0.1, 0.2, 0.3, 0.4])
    counts = np.rint(100_000 * (weight * first + (1 - weight) * second)).astype(int)
    words = np.repeat(np.arange(4), counts)
    found = mixture_weight(-np.log(first[words]), -np.log(second[words]))
    assert found == pytest.approx(weight, abs=1e-3)


def test_weight_maximizes_the_likelihood() -> None:
    random = np.random.default_rng(0)
    first, second = random.gamma(2.0, 2.0, (2, 500))
    found = mixture_weight(first, second)
    assert 0.01 < found < 0.99
    best = mixture(first, second, found).sum()
    for other in (found - 0.01, found + 0.01):
        assert mixture(first, second, other).sum() > best


def test_mixture_is_linear_in_probabilities() -> None:
    p, q = np.array([0.5, 0.01, 1e-200]), np.array([0.1, 0.3, 1e-300])
    mixed = mixture(-np.log(p), -np.log(q), 0.25)
    np.testing.assert_allclose(mixed, -np.log(0.25 * p + 0.75 * q), rtol=1e-12)
    np.testing.assert_allclose(mixture(-np.log(p), -np.log(q), 1.0), -np.log(p))
    np.testing.assert_allclose(mixture(-np.log(p), -np.log(q), 0.0), -np.log(q))


def test_words_of_probability_zero_are_mixed() -> None:
    nll = np.array([1.0, 2.0, math.inf, math.inf])
    other = np.array([math.inf, 1.0, 1.0, math.inf])
    mixed = mixture(nll, other, 0.5)
    expected = [0.5 * math.exp(-1), 0.5 * (math.exp(-2) + math.exp(-1)), 0.5 * math.exp(-1), 0]
    np.testing.assert_allclose(np.exp(-mixed), expected)
    assert 0.3 < mixture_weight(nll, other) < 0.5
    assert mixture_weight(nll[:1], other[:1]) == pytest.approx(1.0)
    assert mixture_weight(nll[3:], other[3:]) == 0.5  # no word is left


def test_weights_of_three_models_have_no_better_neighbor() -> None:
    log_probs = -np.random.default_rng(1).exponential(size=(400, 3)) * [1.0, 1.2, 1.1] - 800
    weights = np.array(mixture_weights(log_probs))

    def likelihood(weights: Any) -> float:
        return float(np.log(np.exp(log_probs + 800) @ weights).sum())

    for i in range(3):
        for j in range(3):
            moved = weights.copy()
            moved[i], moved[j] = moved[i] + 0.01, moved[j] - 0.01
            if moved.min() >= 0:
                assert likelihood(moved) <= likelihood(weights) + 1e-9


def test_useless_model_has_no_weight() -> None:
    log_probs = np.stack([np.full(50, -1.0), np.full(50, -5.0)], axis=1)
    assert mixture_weights(log_probs) == pytest.approx([1, 0], abs=1e-4)


def test_kenlm_file_has_the_scores_of_kenlm() -> None:
    kenlm = pytest.importorskip("kenlm", reason="needs kenlm: pip install kenlm")
    model = kenlm.Model(str(GOLDEN / "bigram.arpa"))
    for sentence in read_other_scores(str(GOLDEN / "kenlm.scores")):
        scores = [score for score, _, _ in model.full_scores(" ".join(sentence.words))]
        np.testing.assert_allclose(-sentence.nll / math.log(10), scores, atol=1e-6)
