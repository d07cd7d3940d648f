"""Linear interpolation of two language models, word by word.

The probability of a word is λ p + (1 - λ) q. The weight λ that maximizes the likelihood of a text
is found by expectation maximization, as by SRILM's `compute-best-mix`.

Shape: N words.
"""

import math

import numpy as np
from numpy.typing import NDArray

Nll = NDArray[np.float64]

_MAX_STEPS = 10_000
_TOLERANCE = 1e-7


def mixture(nll: Nll, other: Nll, weight: float) -> Nll:
    """Returns -log(λ p + (1 - λ) q), in nats, [N].

    Args:
        nll: -log p, [N].
        other: -log q, [N]; infinity is the probability 0.
        weight: λ, from 0 to 1.
    """
    log_weight, log_rest = _log(weight), _log(1 - weight)
    return -np.logaddexp(log_weight - nll, log_rest - other)


def mixture_weight(nll: Nll, other: Nll) -> float:
    """Returns the weight λ of the first model that maximizes the likelihood of a text.

    Words to which both models assign the probability 0 are left out.

    Args:
        nll: -log p of the words of the text, [N].
        other: -log q, [N].
    """
    possible = np.isfinite(nll) | np.isfinite(other)
    nll, other = nll[possible], other[possible]
    weight = 0.5
    for _ in range(_MAX_STEPS if len(nll) else 0):
        posterior = np.exp(_log(weight) - nll + mixture(nll, other, weight))
        before, weight = weight, float(posterior.mean())
        if abs(weight - before) < _TOLERANCE:
            break
    return weight


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
