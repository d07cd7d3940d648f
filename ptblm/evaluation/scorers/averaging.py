"""Temperature, and the mean of the probabilities of models and dropout samples.

Shapes: N tokens, V vocabulary.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def tempered(log_probs: Tensor, temperature: float) -> Tensor:
    """Returns the log-probabilities of a softmax whose logits are divided by a temperature, [N, V].

    Args:
        log_probs: log-probabilities, [N, V]. They are logits too, up to a constant.
        temperature: the temperature; 1 returns `log_probs` itself.
    """
    return log_probs if temperature == 1 else (log_probs / temperature).log_softmax(dim=-1)


def mean_log_probs(parts: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Returns the logarithm of a weighted mean of probabilities, in the shape of each part.

    The parts are added one after the other, so that a single one is in memory at a time. Adding
    logarithms keeps probabilities that fp32 cannot represent.

    Args:
        parts: weight and log-probabilities of each part. The weights sum to 1.
    """
    total = None
    for weight, log_probs in parts:
        if weight == 0:
            continue
        part = log_probs if weight == 1 else log_probs + math.log(weight)
        total = part if total is None else torch.logaddexp(total, part)
    if total is None:
        raise ValueError("all weights are 0")
    return total


def target_log_probs(log_probs: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns the log-probability of each target at a temperature, [N].

    Args:
        log_probs: log-probabilities, [N, V].
        targets: ids, [N].
        temperature: the temperature.
    """
    if temperature == 1:
        return log_probs.gather(1, targets[:, None])[:, 0]
    logits = log_probs / temperature
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)
