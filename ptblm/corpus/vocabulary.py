"""The vocabulary: a model's tokens (words, characters, ...), their ids and training counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EOS = "<eos>"
UNK = "<unk>"

Ids = NDArray[np.integer[Any]]


class Vocabulary:
    """Tokens in the order of their ids.

    Args:
        tokens: distinct tokens; the index of a token is its id.
        counts: number of occurrences of each token in the training split.
        merges: pairs of tokens that byte-pair encoding joins, such as "t h", in order of priority;
            empty for other tokenizers.

    Attributes:
        tokens: the tokens as a tuple.
        counts: the counts as a tuple.
        merges: the merges as a tuple.
        ids: maps each token to its id.

    Raises:
        ValueError: if the lengths differ or a token occurs twice.
    """

    def __init__(
        self, tokens: Sequence[str], counts: Sequence[int], merges: Sequence[str] = ()
    ) -> None:
        self.tokens = tuple(tokens)
        self.counts = tuple(counts)
        self.merges = tuple(merges)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self.counts) != len(self.tokens):
            raise ValueError(f"{len(self.tokens):,} tokens, but {len(self.counts):,} counts")
        if len(self.ids) != len(self.tokens):
            raise ValueError("a token occurs twice in the vocabulary")

    @classmethod
    def sorted_by_count(cls, counts: Mapping[str, int]) -> "Vocabulary":
        """Returns a vocabulary sorted by descending count and, for equal counts, by code points.

        This is the order of the TensorFlow tutorial's reader.
        """
        tokens = sorted(counts, key=lambda token: (-counts[token], token))
        return cls(tokens, [counts[token] for token in tokens])

    def __len__(self) -> int:
        return len(self.tokens)

    def with_counts(self, counts: Sequence[int]) -> "Vocabulary":
        """Returns the same tokens with other counts."""
        return Vocabulary(self.tokens, counts, self.merges)

    def as_dict(self) -> dict[str, list[Any]]:
        """Returns the vocabulary as plain data that `Vocabulary(**data)` restores."""
        merges = {"merges": list(self.merges)} if self.merges else {}
        return {"tokens": list(self.tokens), "counts": list(self.counts), **merges}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Tokens and merges: equal for vocabularies that give any text the same ids."""
        return (*self.tokens, "", *self.merges)

    @property
    def id_dtype(self) -> np.dtype[Any]:
        """The dtype in which ids are stored."""
        return id_dtype(len(self))

    @property
    def unk_id(self) -> int | None:
        """The id of `<unk>`; None if the vocabulary does not contain it."""
        return self.ids.get(UNK)

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of `<unk>` and `<eos>`, if the vocabulary contains them."""
        return {token: self.ids[token] for token in (UNK, EOS) if token in self.ids}


def id_dtype(size: int) -> np.dtype[Any]:
    """Returns the smallest dtype for ids below `size`.

    The largest is int32, because torch does not fully support uint32.
    """
    if size <= 2**8:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16 if size <= 2**16 else np.int32)
