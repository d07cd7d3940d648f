"""The tokens a model knows, words or characters or bytes, and the id of each."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EOS = "<eos>"
UNK = "<unk>"

Ids = NDArray[np.integer[Any]]


class Vocabulary:
    """Words in the order of their ids.

    Args:
        words: distinct words; a word's place is its id.
        counts: how often each word occurs in the training split.
    """

    def __init__(self, words: Sequence[str], counts: Sequence[int] = ()) -> None:
        self.words = tuple(words)
        self.counts = tuple(counts)
        self.ids = {word: index for index, word in enumerate(self.words)}

    @classmethod
    def from_counts(cls, counts: Counter[str]) -> "Vocabulary":
        """Orders words by falling count, equal counts by code points (the tutorial's reader)."""
        words = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(words, [counts[word] for word in words])

    def as_json(self) -> dict[str, list[Any]]:
        """What a checkpoint stores."""
        return {"tokens": list(self.words), "counts": list(self.counts)}

    def __len__(self) -> int:
        return len(self.words)

    @property
    def id_type(self) -> np.dtype[Any]:
        """What its ids are stored as."""
        return id_type(len(self))

    @property
    def unk_id(self) -> int | None:
        """The id that unknown words get; None where the training text has no `<unk>`."""
        return self.ids.get(UNK)

    @property
    def marks(self) -> dict[str, int]:
        """The ids of `<unk>` and `<eos>`, of those that there are."""
        return {mark: self.ids[mark] for mark in (UNK, EOS) if mark in self.ids}


def id_type(size: int) -> np.dtype[Any]:
    """The smallest type for ids below `size`, int32 the largest: torch has no real uint32."""
    if size <= 2**8:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16 if size <= 2**16 else np.int32)
