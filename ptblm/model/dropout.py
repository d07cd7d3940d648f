"""Inverted dropout whose masks come from a generator of the caller's."""

import torch
from torch import Tensor


def dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zeroes a share `rate` of `x` and scales the rest, so that its expectation is `x`.

    Every element, every time step too, draws afresh (Zaremba et al. 2014, section 3.1, drop
    only the connections that are not recurrent; this function never sees those that are).

    Args:
        x: activations of any shape.
        rate: the share that is dropped, in [0, 1).
        generator: decides which; None leaves `x` as it is, which evaluation wants.
    """
    if generator is None or rate == 0:
        return x
    keep = 1 - rate
    mask = torch.empty_like(x).bernoulli_(keep, generator=generator)
    return x * mask.div_(keep)
