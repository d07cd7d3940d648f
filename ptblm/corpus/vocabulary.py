"""The tokens a model knows, words or characters or bytes, and the id of each."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EOS = "<eos>"
UNK = "<unk>"

Ids = NDArray[np.int32]


class Vocabulary:
    """Words in the order of their ids.

    Args:
        words: distinct words; a word's place is its id.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.ids = {word: index for index, word in enumerate(self.words)}

    @classmethod
    def from_counts(cls, counts: Counter[str]) -> "Vocabulary":
        """Orders words by falling count, equal counts by code points (the tutorial's reader)."""
        return cls(sorted(counts, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        return len(self.words)

    @property
    def unk_id(self) -> int | None:
        """The id that unknown words get; None where the training text has no `<unk>`."""
        return self.ids.get(UNK)

    @property
    def marks(self) -> dict[str, int]:
        """The ids of `<unk>` and `<eos>`, of those that there are."""
        return {mark: self.ids[mark] for mark in (UNK, EOS) if mark in self.ids}
