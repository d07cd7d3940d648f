"""Looks up the numbers of a text's words, many at a time: three times as fast as a dict alone.

A dict waits for memory at nearly every word. Here NumPy finds the words of a block, takes the
first 16 bytes of each as two integers, and looks all of them up at once in a table in front of the
dict. Only words that the table lacks, or that are longer, are looked up one by one.

Shapes: W words of a block.
"""

import re

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import Ids

# What str.split takes for a space, in ASCII and beyond it.
_IS_SPACE = np.array([chr(byte).isspace() and byte < 128 for byte in range(256)])
_WIDE_SPACES = re.compile(r"[^\S\x00-\x7f]")

# By its number of bytes, the part of an integer of eight that belongs to a word.
_PART = np.array([256**size - 1 for size in range(9)], dtype=np.uint64)
_AT_ONCE = 16  # bytes of a word that are compared at once

_TABLE_BITS = 21
# Odd numbers with about half of their bits set: products' high bits hang on all the words' bytes.
_MIX_HEAD = np.uint64(0x9E3779B97F4A7C15)
_MIX_TAIL = np.uint64(0xC2B2AE3D27D4EB4F)


class WordTable:
    """The numbers of words.

    Args:
        numbers: of the words that are known; distinct, from 0 on.
        learn: whether words that are not known are given the next numbers, in `numbers` too.
    """

    def __init__(self, numbers: dict[str, int], *, learn: bool) -> None:
        self._numbers = numbers
        self._learn = learn
        # The word that was the first to fall on a place. Its bytes are compared, so that two
        # words on one place are no mistake: the later one is looked up in the dict.
        self._table = np.zeros(2**_TABLE_BITS, dtype=np.int32)
        # The first and the second eight bytes of words by number, zeros after a word's end;
        # all zeros, which no word is, where there is nothing to compare with.
        self._heads = np.zeros(len(numbers) + 1, dtype=np.uint64)
        self._tails = np.zeros(len(numbers) + 1, dtype=np.uint64)

    def find(self, text: str) -> Ids:
        """The numbers of the words that spaces separate in `text`, [W]; -1 for an unknown one."""
        if not text.isascii():
            text = _WIDE_SPACES.sub(" ", text)
        # Spaces around, so that a word has two edges, and 16 bytes can be read from its start.
        raw = b" " + text.encode() + b" " * _AT_ONCE
        data = np.frombuffer(raw, dtype=np.uint8)
        is_space = _IS_SPACE[data]
        edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1
        starts, ends = edges[::2], edges[1::2]
        sizes = ends - starts

        eights: NDArray[np.uint64] = np.ndarray((len(raw) - 7,), "<u8", raw, strides=(1,))
        heads = eights[starts] & _PART[np.minimum(sizes, 8)]
        tails = eights[starts + 8] & _PART[np.clip(sizes - 8, 0, 8)]
        mixed = (heads * _MIX_HEAD) ^ (tails * _MIX_TAIL)
        locations = (mixed >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
        found: Ids = self._table[locations]
        missed = (self._heads[found] != heads) | (self._tails[found] != tails) | (sizes > _AT_ONCE)
        if b"\0" in raw:  # looks like the zeros after a word's end
            missed[:] = True
        indices = np.flatnonzero(missed)
        columns = (indices, *(each[indices] for each in (starts, ends, locations, heads, tails)))
        for index, start, end, place, head, tail in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            found[index] = self._find_one(raw[start:end], place, head, tail)
        return found

    def _find_one(self, word: bytes, place: int, head: int, tail: int) -> int:
        """The number of one word; from now on the table has it, if it can."""
        symbol = word.decode()
        number = self._numbers.get(symbol)
        if number is None:
            if not self._learn:
                return -1
            number = self._numbers[symbol] = len(self._numbers)
            if number >= len(self._heads):
                more = np.zeros_like(self._heads)
                self._heads = np.append(self._heads, more)
                self._tails = np.append(self._tails, more)
        if self._table[place] == 0 and len(word) <= _AT_ONCE and b"\0" not in word:
            self._table[place] = number
            self._heads[number], self._tails[number] = head, tail
        return number
