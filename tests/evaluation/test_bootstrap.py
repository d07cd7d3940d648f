"""The paired bootstrap for the ratio of perplexities, against exact and closed forms."""

import itertools
import math

import numpy as np
import pytest

from ptblm.evaluation.bootstrap import perplexity_ratio


def test_interval_of_three_sentences_is_that_of_all_resamples() -> None:
    nll, other = np.array([5.0, 9.0, 2.0]), np.array([4.0, 10.0, 3.0])
    tokens = np.array([2, 4, 1])
    found = perplexity_ratio(nll, other, tokens, resamples=40_000)
    samples = [
        sum((nll - other)[list(i)]) / sum(tokens[list(i)])
        for i in itertools.product(range(3), repeat=3)
    ]
    low, high = np.percentile(samples, [2.5, 97.5], method="inverted_cdf")
    assert found.ratio == pytest.approx(math.exp((16 - 17) / 7))
    assert found.low == pytest.approx(math.exp(low))
    assert found.high == pytest.approx(math.exp(high))
    assert found.sentences == 3


@pytest.mark.parametrize("sentences", [2000, 60_000])
def test_interval_agrees_with_the_delta_method(sentences: int) -> None:
    """Standard error of a ratio of sums: Cochran 1977, Sampling Techniques, section 6.4."""
    generator = np.random.default_rng(1)
    tokens = generator.integers(1, 40, sentences)
    other = tokens * 4.5 + generator.normal(0, 3, sentences)
    difference = 0.02 * tokens + generator.normal(0, 0.4, sentences) * np.sqrt(tokens)
    found = perplexity_ratio(other + difference, other, tokens, resamples=4000)
    mean = difference.sum() / tokens.sum()
    error = math.sqrt(((difference - mean * tokens) ** 2).sum()) / tokens.sum()
    assert math.log(found.ratio) == pytest.approx(mean)
    assert math.log(found.low) == pytest.approx(mean - 1.96 * error, abs=0.12 * error)
    assert math.log(found.high) == pytest.approx(mean + 1.96 * error, abs=0.12 * error)


def test_ratio_beyond_the_range_of_floats_is_infinite() -> None:
    tokens = np.array([2, 3])
    found = perplexity_ratio(np.array([1e5, 1.0]), np.array([1.0, 1.0]), tokens)
    assert found == (math.inf, 1.0, math.inf, 2)
    assert perplexity_ratio(np.array([1.0, 1.0]), np.array([1e5, 1.0]), tokens).ratio == 0


def test_equal_models_have_a_ratio_of_one() -> None:
    nll, tokens = np.random.default_rng(0).random(50), np.full(50, 3)
    assert perplexity_ratio(nll, nll, tokens)[:3] == (1.0, 1.0, 1.0)


def test_interval_does_not_depend_on_the_block_of_draws() -> None:
    nll, other = np.random.default_rng(0).random((2, 30)) * 9
    tokens = np.full(30, 2)
    first, again = (perplexity_ratio(nll, other, tokens, seed=4) for _ in range(2))
    swapped = perplexity_ratio(other, nll, tokens, seed=4)
    assert first == again
    assert swapped.ratio == pytest.approx(1 / first.ratio)
    assert swapped.low == pytest.approx(1 / first.high, rel=1e-6)
