"""Word errors, combined scores, and the search for weights."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.evaluation.combination import Candidates, Weights, totals
from ptblm.evaluation.tune_rescoring import best, tune
from ptblm.evaluation.word_errors import word_errors

words = st.lists(st.sampled_from("abc"), max_size=7)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "errors"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("", "a b c", 3),
        ("a b c", "", 3),
        ("a x c", "a b c", 1),
        ("a c", "a b c", 1),
        ("a b b c", "a b c", 1),
        ("b c a", "a b c", 2),
        ("k i t t e n", "s i t t i n g", 3),
        ("s u n d a y", "s a t u r d a y", 3),
        ("i n t e n t i o n", "e x e c u t i o n", 5),
    ],
)
def test_word_errors_of_known_examples(hypothesis: str, reference: str, errors: int) -> None:
    assert word_errors(hypothesis.split(), reference.split()) == errors


@given(words, words, words)
def test_word_errors_are_a_distance(a: list[str], b: list[str], c: list[str]) -> None:
    assert word_errors(a, b) == word_errors(b, a)
    assert (word_errors(a, b) == 0) == (a == b)
    assert word_errors(a, c) <= word_errors(a, b) + word_errors(b, c)
    assert abs(len(a) - len(b)) <= word_errors(a, b) <= max(len(a), len(b))
    assert word_errors([*c, *a], [*c, *b]) == word_errors(a, b)


def test_totals_are_log_linear() -> None:
    columns = ([-10.0, -20.0], [-4.0, -2.0], [-2.0, -8.0], [3.0, 5.0], [-0.5, 0.0])
    found = totals(Candidates(*map(np.array, columns)), Weights(0.25, 12.0, -0.5))
    # Kaldi: cost = acoustic + scale * (graph + w * nn + (1 - w) * old)
    expected = [
        -10 + 12 * (-0.5 + 0.75 * -4 + 0.25 * -2) - 1.5,
        -20 + 12 * (0.75 * -2 + 0.25 * -8) - 2.5,
    ]
    np.testing.assert_allclose(found, expected)


def test_impossible_words_have_no_effect_without_their_model() -> None:
    old = np.array([-math.inf, -1.0])
    candidates = Candidates(np.zeros(2), old, np.array([-2.0, -3.0]), np.ones(2), np.zeros(2))
    assert totals(candidates, Weights(1.0, 2.0, 0.0)).tolist() == [-4.0, -6.0]
    assert totals(candidates, Weights(0.5, 2.0, 0.0))[0] == -math.inf
    swapped = replace(candidates, old=candidates.new, new=candidates.old)
    assert totals(swapped, Weights(0.0, 2.0, 0.0)).tolist() == [-4.0, -6.0]
    assert totals(swapped, Weights(0.5, 0.0, 0.0)).tolist() == [0.0, 0.0]


def test_totals_that_overflow_are_never_best() -> None:
    huge = np.array([-1e308, -1.0])
    candidates = Candidates(np.zeros(2), huge, huge, np.array([1e3, 1.0]), np.zeros(2))
    with np.errstate(all="raise"):
        found = totals(candidates, Weights(0.5, 12.0, 1e306))
    assert found[0] == -math.inf
    assert found.argmax() == 1


def test_first_of_equal_hypotheses_is_best() -> None:
    scores = np.array([1.0, 3.0, 3.0, 2.0, -math.inf, -math.inf])
    assert best(scores, np.array([0, 3, 4])).tolist() == [1, 3, 4]


def made_up(
    weight: float, utterances: int = 60, seed: int = 0
) -> tuple[Candidates, np.ndarray, np.ndarray]:
    """Lists in which the right hypothesis has the best score near one weight only.

    Each list contains three hypotheses: the right one, one that wins below `weight`, and one that
    wins above it. The weights at which they win differ between lists and come close to `weight`.
    """
    random = np.random.default_rng(seed)
    acoustic, old, new, errors = [], [], [], []
    for below, above in zip(
        np.linspace(0.02, weight - 0.004, utterances),
        np.linspace(weight + 0.004, 0.98, utterances),
        strict=True,
    ):
        slope = random.uniform(0.5, 2)
        # Lines over the weight w: 0 for the right one; slope * (below - w); slope * (w - above).
        acoustic += [-5.0, -5.0, -5.0]
        old += [-7.0, -7.0 + slope * below, -7.0 - slope * above]
        new += [-7.0, -7.0 + slope * (below - 1), -7.0 + slope * (1 - above)]
        errors += [0, 1, 2]
    starts = np.arange(0, 3 * utterances, 3)
    length = [2.0] * len(errors)
    graph = [0.0] * len(errors)
    candidates = Candidates(*map(np.array, (acoustic, old, new, length, graph)))
    return candidates, np.array(errors), starts


@pytest.mark.parametrize("weight", [0.13, 0.4, 0.62, 0.87])
def test_known_best_weight_is_found(weight: float) -> None:
    candidates, errors, starts = made_up(weight)
    result = tune(candidates, errors, starts, Weights(0.5, 12.0, 0.0))
    assert result.weights.weight == pytest.approx(weight, abs=0.005)
    assert result.after == 0
    assert result.oracle == 0
    assert result.before == 60  # below all weights, the second hypothesis wins


def test_smallest_weight_wins_if_many_are_best() -> None:
    columns = ([0.0, -1.0], [0.0, 0.0], [-5.0, 0.0], [1.0, 1.0], [0.0, 0.0])
    candidates = Candidates(*map(np.array, columns))
    result = tune(candidates, np.array([1, 0]), np.array([0]), Weights(0.5, 1.0, 0.0))
    assert result.weights == Weights(0.21, 1.0, 0.0)
    same = tune(candidates, np.array([3, 3]), np.array([0]), Weights(0.5, 1.0, 0.0))
    assert same.weights == Weights(0.0, 1.0, 0.0)
    assert (same.before, same.after, same.oracle) == (3, 3, 3)


def test_weights_that_are_fixed_are_kept() -> None:
    candidates, errors, starts = made_up(0.62)
    initial = Weights(0.3, 7.0, 0.125)
    for fixed in ({"weight"}, {"scale"}, {"penalty"}, {"weight", "scale", "penalty"}):
        found = tune(candidates, errors, starts, initial, fixed).weights
        for name in fixed:
            assert getattr(found, name) == getattr(initial, name)


def test_word_penalty_is_found() -> None:
    """Without a penalty, the shorter of two hypotheses wins; the longer one is right."""
    columns = ([-1.0, -1.3] * 4, [0.0] * 8, [-2.0, -2.0] * 4, [3.0, 4.0] * 4, [0.0] * 8)
    candidates = Candidates(*map(np.array, columns))
    errors, starts = np.array([1, 0] * 4), np.arange(0, 8, 2)
    result = tune(candidates, errors, starts, Weights(0.5, 1.0, 0.0))
    assert (result.before, result.after) == (4, 0)
    assert result.weights == Weights(0.0, 1.0, 0.5)


def test_result_is_as_good_as_a_full_search() -> None:
    random = np.random.default_rng(1)
    sizes = random.integers(1, 6, 30)
    starts = np.cumsum([0, *sizes[:-1]])
    count = int(sizes.sum())
    candidates = Candidates(
        random.normal(-50, 8, count),
        random.normal(-9, 1, count),
        random.normal(-8, 1, count),
        random.integers(1, 9, count).astype(float),
        random.normal(0, 0.5, count),
    )
    errors = random.integers(0, 5, count)
    result = tune(candidates, errors, starts, Weights(0.5, 12.0, 0.0))
    grid = product(np.linspace(0, 1, 21), [1, 4, 8, 12, 16, 20], [-1, -0.5, 0, 0.5, 1])
    full = min(errors[best(totals(candidates, Weights(*point)), starts)].sum() for point in grid)
    assert result.oracle <= result.after <= full <= result.before
