"""Drawing of tokens: temperature, top-k, top-p, excluded tokens, and the exact distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptblm.errors import UsageError
from ptblm.evaluation.sampling import Sampling, draw

P = [0.05, 0.4, 0.1, 0.25, 0.2]


def frequencies(sampling: Sampling, probabilities: list[float] = P) -> list[float]:
    """The share of each token, for random numbers at equal distances in [0, 1)."""
    count = 10_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    log_probs = torch.tensor(probabilities, dtype=torch.float64).log().expand(count, -1)
    drawn = draw(log_probs, uniform, sampling)
    return (torch.bincount(drawn, minlength=len(probabilities)) / count).tolist()


def normalized(*weights: float) -> list[float]:
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), P),
        (Sampling(top_k=5), P),
        (Sampling(top_k=100, top_p=1.0), P),
        (Sampling(temperature=0.5), normalized(*(p**2 for p in P))),
        (Sampling(temperature=2.0), normalized(*(p**0.5 for p in P))),
        (Sampling(temperature=1e9), normalized(1, 1, 1, 1, 1)),
        (Sampling(top_k=2), normalized(0, 0.4, 0, 0.25, 0)),
        (Sampling(top_p=0.5), normalized(0, 0.4, 0, 0.25, 0)),
        (Sampling(top_p=0.39), normalized(0, 1, 0, 0, 0)),
        (Sampling(top_p=0.41), normalized(0, 0.4, 0, 0.25, 0)),
        (Sampling(top_p=0.86), normalized(0, 0.4, 0.1, 0.25, 0.2)),
        (Sampling(top_p=1e-9), normalized(0, 1, 0, 0, 0)),
        (Sampling(excluded=(1,)), normalized(0.05, 0, 0.1, 0.25, 0.2)),
        (Sampling(excluded=(1,), top_k=2), normalized(0, 0, 0, 0.25, 0.2)),
        (Sampling(excluded=(1, 3), top_k=4), normalized(0.05, 0, 0.1, 0, 0.2)),
        # Temperature first, then top-k, then top-p of what is left.
        (Sampling(temperature=0.5, top_p=0.5), normalized(0, 1, 0, 0, 0)),
        (Sampling(top_k=3, top_p=0.6), normalized(0, 0.4, 0, 0.25, 0)),
        (Sampling(temperature=0), normalized(0, 1, 0, 0, 0)),
        (Sampling(temperature=0, excluded=(1,)), normalized(0, 0, 0, 1, 0)),
    ],
    ids=repr,
)
def test_rules_give_the_expected_distribution(sampling: Sampling, expected: list[float]) -> None:
    np.testing.assert_allclose(frequencies(sampling), expected, atol=2e-4)


def test_top_p_set_is_not_larger_than_needed() -> None:
    """Its probability may be exactly top-p."""
    p = [0.25, 0.5, 0.125, 0.125]
    for top_p, expected in ((0.5, [0, 1, 0, 0]), (0.75, [1 / 3, 2 / 3, 0, 0])):
        np.testing.assert_allclose(frequencies(Sampling(top_p=top_p), p), expected, atol=2e-4)


LOG_PROBS = st.lists(st.floats(-700, 0), min_size=1, max_size=20)


@given(LOG_PROBS, st.floats(0, 1, exclude_max=True))
def test_greedy_rules_agree(log_probs: list[float], uniform: float) -> None:
    tensor = torch.tensor([log_probs], dtype=torch.float64)
    best = sorted(log_probs)[-2:]
    greedy = [Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=1e-300)]
    if len(best) == 1 or best[1] - best[0] > 1e-4:
        greedy += [Sampling(temperature=1e-6), Sampling(temperature=1e-320)]
    for sampling in greedy:
        (drawn,) = draw(tensor, torch.tensor([uniform], dtype=torch.float64), sampling).tolist()
        assert log_probs[drawn] == best[-1]


@given(LOG_PROBS, st.integers(0, 25), st.floats(0.01, 1), st.floats(0.05, 20))
def test_impossible_tokens_are_never_drawn(
    log_probs: list[float], top_k: int, top_p: float, temperature: float
) -> None:
    possible = [float("-inf"), *log_probs, float("-inf")]
    tensor = torch.tensor(possible, dtype=torch.float64).expand(3, -1)
    uniform = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    rules = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    for drawn in draw(tensor, uniform, rules).tolist():
        assert possible[drawn] > float("-inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": float("nan")},
    ],
)
def test_values_out_of_range_are_errors(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Sampling(**wrong)  # type: ignore[arg-type]
