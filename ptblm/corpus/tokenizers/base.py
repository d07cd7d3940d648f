"""The tokenizer interface: converts the bytes of a text to token ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.source import TextBlocks
from ptblm.corpus.vocabulary import Ids, Vocabulary
from ptblm.errors import DataError


class Tokenizer(ABC):
    """Splits text into tokens and maps tokens to ids.

    To add a tokenizer, subclass this in a new file and register it in `tokenizers/__init__.py`.

    Args:
        vocabulary: the known tokens. If None, the vocabulary starts with `initial_tokens`,
            `encode` with `grow_vocabulary` adds the tokens of the training split, and
            `finish_vocabulary` completes it.

    Attributes:
        name: value of the config key `data.tokenizer`.
        unit: name of a token in messages and results.
        initial_tokens: tokens that every vocabulary contains.
        keeps_ids: whether `finish_vocabulary` keeps the ids that `encode` assigned. If not, it
            sorts the tokens by count.
        splits_at_lines: whether the train, valid and test parts of a file start at line starts.
        file_prefixes: prefixes of the split files in a corpus directory, in order of preference.
        vocabulary: the known tokens.
        ids: the id of each token, including tokens added by `grow_vocabulary`.

    Raises:
        DataError: if the vocabulary lacks one of `initial_tokens`.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    initial_tokens: ClassVar[tuple[str, ...]]
    keeps_ids: ClassVar[bool] = False
    splits_at_lines: ClassVar[bool] = True
    file_prefixes: ClassVar[tuple[str, ...]] = ("ptb.", "")

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is None:
            vocabulary = Vocabulary(self.initial_tokens, [0] * len(self.initial_tokens))
        for token in self.initial_tokens:
            if token not in vocabulary.ids:
                raise DataError(f"the vocabulary does not contain {token}")
        self.vocabulary = vocabulary
        self.ids = dict(vocabulary.ids)

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of `<unk>` and `<eos>`, if the vocabulary contains them."""
        return self.vocabulary.special_ids

    @staticmethod
    @abstractmethod
    def block_end(raw: bytes) -> int:
        """Returns how many bytes can be tokenized without the bytes that follow; 0 if none."""

    @abstractmethod
    def encode(self, blocks: TextBlocks, *, grow_vocabulary: bool = False) -> Iterator[Ids]:
        """Yields the token ids of a text in order, one array per block.

        Args:
            blocks: the text, split by `block_end`.
            grow_vocabulary: whether to add unknown tokens to `ids`. If not, their id is -1.

        Raises:
            DataError: if the text is empty, cannot be read or cannot be tokenized.
        """

    @abstractmethod
    def decode(self, ids: Ids) -> str:
        """Returns the text of a sequence of ids, [N]."""

    def finish_vocabulary(self, counts: NDArray[np.int64]) -> Ids:
        """Sets `vocabulary` from the tokens found by `grow_vocabulary`.

        Args:
            counts: occurrences of each token in the training split, by the ids of `encode`.

        Returns:
            The final id of each id that `encode` assigned.
        """
        if self.keeps_ids:
            self.vocabulary = Vocabulary(list(self.ids), counts.tolist())
        else:
            by_token = dict(zip(self.ids, counts.tolist(), strict=True))
            self.vocabulary = Vocabulary.sorted_by_count(by_token)
        final_ids = [self.vocabulary.ids[token] for token in self.ids]
        self.ids = dict(self.vocabulary.ids)
        return np.array(final_ids, dtype=self.vocabulary.id_dtype)


def check_not_empty(has_tokens: bool, name: str, unit: str) -> None:
    """Raises DataError unless a text has tokens."""
    if not has_tokens:
        raise DataError("the text is empty", where=name, hint=f"pass a file that contains {unit}s")
