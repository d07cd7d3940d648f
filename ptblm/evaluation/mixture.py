"""Linear interpolation of language models, word by word.

The probability of a word is λ p + (1 - λ) q, or the weighted mean of more models. The weights that
maximize the likelihood of a text are found by expectation maximization, as by SRILM's
`compute-best-mix`.

Shapes: N words, M models.
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
    return mixture_weights(-np.stack([nll, other], axis=1))[0]


def mixture_weights(log_probs: NDArray[np.float64]) -> list[float]:
    """Returns the weights of models that maximize the likelihood of a text, [M].

    Words to which all models assign the probability 0 are left out.

    Args:
        log_probs: log-probability of each word under each model, [N, M]; -infinity is the
            probability 0.
    """
    log_probs = log_probs[np.isfinite(log_probs).any(axis=1)]
    # The posterior does not depend on a constant factor of the probabilities of a word.
    probs = np.exp(log_probs - log_probs.max(axis=1, keepdims=True))
    weights = np.full(probs.shape[1], 1 / probs.shape[1])
    for _ in range(_MAX_STEPS if len(probs) else 0):
        posterior = probs * weights / (probs @ weights)[:, None]
        before, weights = weights, posterior.mean(axis=0)
        if np.abs(weights - before).max() < _TOLERANCE:
            break
    return [float(weight) for weight in weights / weights.sum()]


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
