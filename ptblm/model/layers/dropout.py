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
    """Returns a scaled mask of the shape, type and device of `like`.

    A type of 16 bits, such as bf16, cannot represent most scales 1 / (1 - rate). A mask of such a
    type contains the two values next to the scale, in random places, so that their mean is exact.
    """
    if like.device.type == "cpu":
        return _mask_from_16_bits(like, rate, generator)
    return _mask_from_bernoulli(like, rate, generator)


def _mask_from_bernoulli(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    keep = 1 - rate
    mask = torch.empty_like(like).bernoulli_(keep, generator=generator)
    if like.itemsize > 2:
        return mask.div_(keep)
    (low, high), share = _neighbors(1 / keep, like.dtype)
    is_high = torch.empty_like(like).bernoulli_(share, generator=generator)
    return mask.mul_(is_high.mul_(high - low).add_(low))


def _mask_from_16_bits(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Returns a scaled mask, computed from 16 random bits per element.

    A CPU draws numbers one at a time. Using each 64-bit number for four elements takes a fifth of
    the time of `bernoulli_` and saves 10 ms per step of the medium config (docs/performance.md).
    The rate is rounded to a multiple of 1/65536, and the scale matches the rounded rate.
    """
    kept = min(max(round((1 - rate) * 2**16), 1), 2**16)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[: like.numel()]
    if like.itemsize > 2:
        return (bits >= 2**15 - kept).to(like.dtype).mul_(2**16 / kept).view_as(like)
    (low, _), share = _neighbors(2**16 / kept, like.dtype)
    # The next larger value of a type has the next larger bits, so integers are computed.
    is_high = bits.clone().gt_(2**15 - 1 - round(kept * share))
    low_bits = torch.tensor(low, dtype=like.dtype, device="cpu").view(torch.int16)
    return bits.ge_(2**15 - kept).mul_(low_bits).add_(is_high).view(like.dtype).view_as(like)


def _neighbors(scale: float, dtype: torch.dtype) -> tuple[tuple[float, float], float]:
    """Returns the two values of a 16-bit type around a positive number, in order, and a share.

    The mean of the two, with this share of the larger one, is the number.
    """
    bits = torch.tensor([scale], dtype=dtype, device="cpu").view(torch.int16)
    if bits.view(dtype).item() > scale:
        bits -= 1
    low, high = bits.view(dtype).item(), (bits + 1).view(dtype).item()
    return (low, high), (scale - low) / (high - low)
