"""Looks up the ids of many words at once, three times as fast as a dict.

Nearly every dict lookup waits for memory. Instead, NumPy finds the words of a block, reads the
first 16 bytes of each word as two integers, and looks up all words at once in a hash table. The
dict is used only for words that are longer than 16 bytes or not in the table.

Shapes: W words in a block.
"""

import re

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import Ids

# The separators of str.split. For each byte, 1 if it is an ASCII separator.
_IS_SPACE = bytes(chr(byte).isspace() and byte < 128 for byte in range(256))
_WIDE_SPACES = re.compile(r"[^\S\x00-\x7f]")  # the others

# Masks that keep the first 0 to 8 bytes of a little-endian 64-bit integer.
_BYTE_MASKS = np.array([256**size - 1 for size in range(9)], dtype=np.uint64)
_MAX_SIZE = 16  # longest word in the table, in bytes

_TABLE_BITS = 21
# Odd multipliers with about half of their bits set: the high bits of the product depend on all
# bytes of the word (multiplicative hashing; Knuth, The Art of Computer Programming, vol. 3, 6.4).
_HEAD_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_TAIL_MULTIPLIER = np.uint64(0xC2B2AE3D27D4EB4F)


class WordTable:
    """A table of word ids.

    Args:
        ids: the distinct ids of the known words, starting at 0.
        grow_vocabulary: whether to add unknown words to `ids` with the next free id.
    """

    def __init__(self, ids: dict[str, int], *, grow_vocabulary: bool) -> None:
        self._ids = ids
        self._grow_vocabulary = grow_vocabulary
        self._has_wide_spaces = False
        # The id of a word with each hash. A word can be in one of two slots. If both are taken, the
        # comparison of bytes fails, and the word is looked up in the dict.
        self._table = np.zeros(2**_TABLE_BITS, dtype=np.int32)
        # The first and the second eight bytes of each word by id, padded with zeros. Words that are
        # not in the table have only zeros here.
        self._heads = np.zeros(len(ids) + 1, dtype=np.uint64)
        self._tails = np.zeros(len(ids) + 1, dtype=np.uint64)

    def find(self, text: bytes) -> Ids:
        """Returns the ids of the words in UTF-8 text, [W]; -1 for an unknown word."""
        # A search for wide spaces takes longer than the rest of this function, and few texts have
        # any. Only words that are looked up in the dict are searched: words in the table never
        # contain wide spaces.
        if not self._has_wide_spaces:
            found = self._find(text)
            if not self._has_wide_spaces:
                return found
        return self._find(_WIDE_SPACES.sub(" ", text.decode()).encode())

    def _find(self, text: bytes) -> Ids:
        # Spaces on both sides give each word two edges and make it safe to read 16 bytes.
        raw = b" " + text + b" " * _MAX_SIZE
        is_space = np.frombuffer(raw.translate(_IS_SPACE), dtype=np.bool_)
        edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1  # [2W]
        starts, ends = edges[::2], edges[1::2]  # [W]
        sizes = ends - starts  # [W]

        eights: NDArray[np.uint64] = np.ndarray((len(raw) - 7,), "<u8", raw, strides=(1,))
        heads = eights[starts] & _BYTE_MASKS[np.minimum(sizes, 8)]  # [W]
        tails = eights[starts + 8] & _BYTE_MASKS[np.clip(sizes - 8, 0, 8)]  # [W]
        hashes = (heads * _HEAD_MULTIPLIER) ^ (tails * _TAIL_MULTIPLIER)
        slots = (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
        found: Ids = self._table[slots]
        missed = (self._heads[found] != heads) | (self._tails[found] != tails) | (sizes > _MAX_SIZE)
        if b"\0" in raw:  # a zero byte in a word looks like the padding
            missed[:] = True
        indices = np.flatnonzero(missed)
        columns = tuple(each[indices] for each in (starts, ends, slots, heads, tails))
        seconds = (hashes[indices] >> np.uint64(64 - 2 * _TABLE_BITS)).astype(np.int64)
        seconds &= 2**_TABLE_BITS - 1
        others = self._table[seconds]
        is_found = (self._heads[others] == columns[3]) & (self._tails[others] == columns[4])
        is_found &= (sizes[indices] <= _MAX_SIZE) & (b"\0" not in raw)
        found[indices[is_found]] = others[is_found]
        rest = ~is_found
        for index, start, end, slot, head, tail, second in zip(
            *(column[rest].tolist() for column in (indices, *columns, seconds)), strict=True
        ):
            found[index] = self._find_one(raw[start:end], (slot, second), head, tail)
        return found

    def _find_one(self, raw: bytes, slots: tuple[int, int], head: int, tail: int) -> int:
        """Returns the id of a word and adds the word to the table if one of its slots is free."""
        word = raw.decode()
        index = self._ids.get(word)
        if index is None:
            if not raw.isascii() and _WIDE_SPACES.search(word):
                self._has_wide_spaces = True  # `find` reads the text again
                return -1
            if not self._grow_vocabulary:
                return -1
            index = self._ids[word] = len(self._ids)
            if index >= len(self._heads):
                more = np.zeros_like(self._heads)
                self._heads = np.append(self._heads, more)
                self._tails = np.append(self._tails, more)
        if len(raw) <= _MAX_SIZE and b"\0" not in raw:
            for slot in slots:
                if self._table[slot] == 0:
                    self._table[slot] = index
                    self._heads[index], self._tails[index] = head, tail
                    break
        return index
