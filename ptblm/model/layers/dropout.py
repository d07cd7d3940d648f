"""Inverted dropout with an explicit random number generator.

Shapes: T time, B batch, V vocabulary, F features.
"""

import torch
from torch import Tensor


def dropout(
    x: Tensor, rate: float, generator: torch.Generator | None, *, locked: bool = False
) -> Tensor:
    """Zeroes a fraction `rate` of `x` and scales the rest to preserve the expected value.

    Unless `locked`, every element of every time step is drawn independently. Dropout applies to
    non-recurrent connections only (Zaremba et al. 2014, section 3.1). With `locked`, the mask is
    the same at every time step (Gal & Ghahramani 2016, arXiv:1512.05287), and it is drawn again in
    the next call.

    Args:
        x: activations; [T, B, F] if `locked`, otherwise of any shape.
        rate: fraction of elements to drop, in [0, 1).
        generator: draws the mask; with None, as in evaluation, `x` is returned unchanged.
        locked: whether the mask is [1, B, F].
    """
    if generator is None or rate == 0:
        return x
    return x * dropout_mask(x[:1] if locked else x, rate, generator)


def word_dropout(
    x: Tensor, ids: Tensor, vocab_size: int, rate: float, generator: torch.Generator | None
) -> Tensor:
    """Zeroes the vectors of a fraction `rate` of the vocabulary, and scales the others.

    All occurrences of a word in the batch have the same fate (Gal & Ghahramani 2016, section 4.2).

    Args:
        x: embedding vectors, [T, B, F].
        ids: the ids of the words, [T, B].
        vocab_size: V.
        rate: fraction of words to drop, in [0, 1).
        generator: draws the mask; with None, `x` is returned unchanged.
    """
    if generator is None or rate == 0:
        return x
    mask = dropout_mask(x.new_empty(vocab_size), rate, generator)  # [V]
    return x * mask[ids].unsqueeze(-1)


def dropout_mask(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Returns a scaled mask of the shape, type and device of `like`."""
    if like.device.type == "cpu":
        return _mask_from_16_bits(like, rate, generator)
    keep = 1 - rate
    return torch.empty_like(like).bernoulli_(keep, generator=generator).div_(keep)


def _mask_from_16_bits(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Returns a scaled mask, computed from 16 random bits per element.

    A CPU draws numbers one at a time. Using each 64-bit number for four elements takes a fifth of
    the time of `bernoulli_` and saves 10 ms per step of the medium config (docs/performance.md).
    The rate is rounded to a multiple of 1/65536, and the scale matches the rounded rate.
    """
    kept = min(max(round((1 - rate) * 2**16), 1), 2**16)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[: like.numel()]
    return (bits >= 2**15 - kept).to(like.dtype).mul_(2**16 / kept).view_as(like)
