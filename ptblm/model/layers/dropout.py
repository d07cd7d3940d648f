"""Inverted dropout with an explicit random number generator.

Shapes: T time, B batch, V vocabulary, F features.
"""

from collections.abc import Sequence

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
    kept, scale = _kept_of_streams(x[:1] if locked else x, rate, generator)
    if x.itemsize > 2:
        return x * kept.mul_(scale)
    return x * kept * scale  # bf16 would round the scale of a mask by up to 0.4%


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


def stream_mask(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Returns a scaled mask of the shape, type and device of `like`, drawn for each stream.

    With a `StepGenerator`, the mask of a stream depends neither on the other streams nor on the
    number of processes. Otherwise all elements are drawn by `generator`.

    Args:
        like: [..., B, F], of at least fp32.
        rate: fraction of elements to drop, in [0, 1).
        generator: draws the mask.
    """
    kept, scale = _kept_of_streams(like, rate, generator)
    return kept.mul_(scale)


def dropout_mask(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Returns a scaled mask of the shape, type and device of `like`, drawn by one generator.

    Args:
        like: a tensor of at least fp32.
        rate: fraction of elements to drop, in [0, 1).
        generator: draws the mask.
    """
    kept, scale = _kept(like, rate, generator)
    return kept.mul_(scale)


def _kept_of_streams(like: Tensor, rate: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Returns a mask of zeros and ones and its scale; see `stream_mask`."""
    if not isinstance(generator, StepGenerator):
        return _kept(like, rate, generator)
    if generator.streams:
        return _kept_from_16_bits(like, rate, generator.streams)
    shape = *like.shape[:-2], generator.batch_size, like.shape[-1]
    kept, scale = _kept(like.new_empty(shape), rate, generator)
    return kept[..., generator.rows, :], scale


def _kept(like: Tensor, rate: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Returns a mask of zeros and ones and its scale; see `dropout_mask`."""
    if like.device.type == "cpu":
        kept, scale = _kept_from_16_bits(like.reshape(1, -1), rate, [generator])
        return kept.view_as(like), scale
    return torch.empty_like(like).bernoulli_(1 - rate, generator=generator), 1 / (1 - rate)


def _kept_from_16_bits(
    like: Tensor, rate: float, generators: Sequence[torch.Generator]
) -> tuple[Tensor, float]:
    """Returns a mask of zeros and ones, [..., B, F], from 16 random bits per element.

    A CPU draws numbers one at a time. Using each 64-bit number for four elements takes a fifth of
    the time of `bernoulli_` and saves 10 ms per step of the medium config (docs/performance.md).
    The rate is rounded to a multiple of 1/65536, and the scale matches the rounded rate.

    Args:
        like: [..., B, F].
        rate: fraction of elements to drop, in [0, 1).
        generators: draw the mask of each row, B generators.
    """
    threshold = min(max(round((1 - rate) * 2**16), 1), 2**16)
    batch, size = like.shape[-2], like.numel() // max(1, like.shape[-2])
    words = torch.empty(batch, -(-size // 4), dtype=torch.int64)
    for row, generator in zip(words.unbind(), generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[:, :size]  # [B, ... * F]
    is_kept = (bits >= 2**15 - threshold).view(batch, -1, like.shape[-1]).transpose(0, 1)
    kept = torch.empty_like(is_kept, dtype=like.dtype, memory_format=torch.contiguous_format)
    return kept.copy_(is_kept).view(like.shape), 2**16 / threshold
