"""Inverted dropout with an explicit random number generator.

Shapes: T time, B batch, V vocabulary, F features.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ptblm.backend.randomness import StepGenerator


def dropout(
    x: Tensor, rate: float, generator: torch.Generator | None, *, locked: bool = False
) -> Tensor:
    """Zeroes a fraction `rate` of `x` and scales the rest to preserve the expected value.

    Unless `locked`, every element of every time step is drawn independently. Dropout applies to
    non-recurrent connections only (Zaremba et al. 2014, section 3.1). With `locked`, the mask is
    the same at every time step (Gal & Ghahramani 2016, arXiv:1512.05287), and it is drawn again in
    the next call.

    Args:
        x: activations, [T, B, F].
        rate: fraction of elements to drop, in [0, 1).
        generator: draws the mask; with None, as in evaluation, `x` is returned unchanged.
        locked: whether the mask is [1, B, F].
    """
    if generator is None or rate == 0:
        return x
    return apply_mask(x, stream_mask(x[:1] if locked else x, rate, generator))


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
    return apply_mask(x, mask[ids].unsqueeze(-1))


def apply_mask(x: Tensor, mask: Tensor) -> Tensor:
    """Returns x times a mask. The type of `x` may be too short for the scale of the mask."""
    return (x * mask).to(x.dtype)


def stream_mask(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Returns a scaled mask of the shape and device of `like`, drawn for each stream.

    With a `StepGenerator`, the mask of a stream depends neither on the other streams nor on the
    number of processes. Otherwise all elements are drawn by `generator`.

    Args:
        like: [..., B, F].
        rate: fraction of elements to drop, in [0, 1).
        generator: draws the mask.

    Returns:
        The mask, of at least fp32: bf16 would round the scale 1 / (1 - rate) by up to 0.4%.
    """
    if not isinstance(generator, StepGenerator):
        return dropout_mask(like, rate, generator)
    if generator.streams:
        return _mask_from_16_bits(like, rate, generator.streams)
    shape = *like.shape[:-2], generator.batch_size, like.shape[-1]
    return dropout_mask(like.new_empty(shape), rate, generator)[..., generator.rows, :]


def dropout_mask(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Returns a scaled mask of the shape and device of `like`, drawn by one generator.

    Its type is at least fp32, as that of `stream_mask`.
    """
    if like.device.type == "cpu":
        return _mask_from_16_bits(like.reshape(1, -1), rate, [generator]).view_as(like)
    keep = 1 - rate
    mask = torch.empty_like(like, dtype=_mask_dtype(like))
    return mask.bernoulli_(keep, generator=generator).div_(keep)


def _mask_dtype(like: Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)


def _mask_from_16_bits(like: Tensor, rate: float, generators: Iterable[torch.Generator]) -> Tensor:
    """Returns a scaled mask, [..., B, F], computed from 16 random bits per element.

    A CPU draws numbers one at a time. Using each 64-bit number for four elements takes a fifth of
    the time of `bernoulli_` and saves 10 ms per step of the medium config (docs/performance.md).
    The rate is rounded to a multiple of 1/65536, and the scale matches the rounded rate.

    Args:
        like: [..., B, F].
        rate: fraction of elements to drop, in [0, 1).
        generators: draw the mask of each row, B generators.
    """
    kept = min(max(round((1 - rate) * 2**16), 1), 2**16)
    batch, size = like.shape[-2], like.numel() // max(1, like.shape[-2])
    words = torch.empty(batch, -(-size // 4), dtype=torch.int64)
    for row, generator in zip(words.unbind(), generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[:, :size]  # [B, ... * F]
    is_kept = (bits >= 2**15 - kept).view(batch, -1, like.shape[-1]).transpose(0, 1)
    mask = torch.empty_like(is_kept, dtype=_mask_dtype(like), memory_format=torch.contiguous_format)
    return mask.copy_(is_kept).mul_(2**16 / kept).view(like.shape)
