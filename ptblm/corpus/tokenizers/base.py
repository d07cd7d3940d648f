"""The tokenizer interface: converts the bytes of a text to token ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ptblm.config.data import VocabularyConfig
from ptblm.corpus.source import Source, TextBlocks, Unit
from ptblm.corpus.vocabulary import EOS, UNK, Ids, Vocabulary
from ptblm.errors import DataError


class Tokenizer(ABC):
    """Splits text into tokens and maps tokens to ids.

    To add a tokenizer, subclass this in a new file and register it in `tokenizers/__init__.py`.

    Args:
        vocabulary: the known tokens. If None, the vocabulary starts with `required_tokens`,
            `encode` with `grow_vocabulary` adds the tokens of the training split, and
            `finish_vocabulary` completes it.
        rule: determines which tokens of the training split `finish_vocabulary` keeps.

    Attributes:
        name: value of the config key `data.tokenizer`.
        unit: name of a token in messages and results.
        required_tokens: tokens that every vocabulary contains.
        default_min_count: the default of `rule.min_count` for a text without `<unk>`.
        keeps_ids: whether `finish_vocabulary` keeps the ids that `encode` assigned. If not, it
            sorts the tokens by count.
        is_divisible: whether lines are encoded independently of each other, so that the parts of a
            training text can be encoded in several processes.
        line_end: the token that ends a line.
        space_before: whether the space between two words belongs to the second one.
        divided_at: where a file is divided into train, valid and test, in order of preference.
        file_prefixes: prefixes of the split files in a corpus directory, in order of preference.
        rule: see `Args`; the defaults of `VocabularyConfig` if None was passed.
        vocabulary: the known tokens.
        ids: the id of each token, including tokens added by `grow_vocabulary`.

    Raises:
        DataError: if the vocabulary lacks one of `required_tokens`.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    required_tokens: ClassVar[tuple[str, ...]]
    default_min_count: ClassVar[int] = 1
    keeps_ids: ClassVar[bool] = False
    is_divisible: ClassVar[bool] = False
    line_end: ClassVar[str] = EOS
    space_before: ClassVar[bool] = False
    divided_at: ClassVar[tuple[Unit, ...]]
    file_prefixes: ClassVar[tuple[str, ...]] = ("ptb.", "")

    def __init__(
        self, vocabulary: Vocabulary | None = None, rule: VocabularyConfig | None = None
    ) -> None:
        self.rule = rule or VocabularyConfig()
        if vocabulary is None:
            is_open = not (self.keeps_ids or self.rule.closed)
            tokens = (*self.required_tokens, UNK) if is_open else self.required_tokens
            vocabulary = Vocabulary(tokens, [0] * len(tokens))
        for token in self.required_tokens:
            if token not in vocabulary.ids:
                raise DataError(f"the vocabulary does not contain {token}")
        self.vocabulary = vocabulary
        self.ids = dict(vocabulary.ids)

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of `<unk>` and `<eos>`, if the vocabulary contains them."""
        return self.vocabulary.special_ids

    @property
    def line_end_id(self) -> int:
        """The id of the token that ends a line, which is also the context of a first token."""
        return self.ids[self.line_end]

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

    def check_text(self, source: Source) -> None:  # noqa: B027  (most tokenizers accept any text)
        """Checks that a training text can be divided into tokens of this kind.

        Raises:
            DataError: if it cannot, for example because words are not separated.
        """

    @abstractmethod
    def decode(self, ids: Ids) -> str:
        """Returns the text of a sequence of ids, [N]."""

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields the text of each token as soon as it is complete.

        The joined texts are the text that `decode` returns for all ids.
        """
        before: list[int] = []
        for index in ids:
            text_before = self.decode(np.array(before, dtype=np.int64))
            yield self.decode(np.array([*before, index]))[len(text_before) :]
            before = [index]

    def finish_vocabulary(self, counts: NDArray[np.int64]) -> Ids:
        """Sets `vocabulary` from the tokens found by `grow_vocabulary`.

        Tokens that `rule` does not keep become `<unk>`.

        Args:
            counts: occurrences of each token in the training split, by the ids of `encode`.

        Returns:
            The final id of each id that `encode` assigned.
        """
        if self.keeps_ids:
            self.vocabulary = self.vocabulary.with_counts(counts.tolist())
        else:
            by_token = dict(zip(self.ids, counts.tolist(), strict=True))
            if UNK in by_token:
                min_count = self.min_count(has_unk=by_token[UNK] > 0)
                by_token = _frequent(by_token, self.required_tokens, min_count, self.rule.size)
            self.vocabulary = Vocabulary.sorted_by_count(by_token)
        known = self.vocabulary.ids
        final_ids = [known[token if token in known else UNK] for token in self.ids]
        self.ids = dict(known)
        return np.array(final_ids, dtype=self.vocabulary.id_dtype)

    def min_count(self, *, has_unk: bool) -> int:
        """Returns how often a token has to occur in the training split.

        Args:
            has_unk: whether the training split contains `<unk>`.
        """
        return self.rule.min_count or (1 if has_unk else self.default_min_count)

    def unknown_token_error(self, blocks: TextBlocks, offset: int, text: str) -> DataError:
        """Returns the error for the first unknown token of the block that starts at `offset`."""
        first_line, _ = blocks.source.line_and_byte(offset)
        line, token = next(
            (number, token)
            for number, line in enumerate(text.split("\n"), start=first_line)
            for token in self.tokens_of(line)
            if token not in self.ids
        )
        return DataError(
            f"'{token[:60]}' is not in the vocabulary, which does not contain {UNK}",
            where=f"{blocks.source.name}:{line}",
            hint="the vocabulary is closed; a model that is trained with "
            "data.vocabulary.closed=false can score any text",
        )

    @staticmethod
    def is_token(text: str) -> bool:
        """Returns whether a text can be a token of a line."""
        return len(text) == 1

    def tokens_of(self, line: str) -> list[str]:
        """Returns the tokens of a line, without the token that ends it."""
        return list(line)

    def spelled(self, token: str) -> str:
        r"""Returns a token as a reader expects it; bytes without a character are as in `\xc3`."""
        return token

    def length(self, token: str) -> int:
        """Returns the number of characters of a token."""
        return len(token)


def _frequent(
    counts: dict[str, int], required: tuple[str, ...], min_count: int, size: int | None
) -> dict[str, int]:
    """Returns the counts of the tokens to keep; the counts of all others are added to `<unk>`."""
    always = {*required, UNK}
    candidates = [token for token in counts if counts[token] >= min_count and token not in always]
    candidates.sort(key=lambda token: (-counts[token], token))
    kept = {*always, *(candidates if size is None else candidates[: size - len(always)])}
    frequent = {token: counts[token] for token in counts if token in kept}
    frequent[UNK] += sum(counts.values()) - sum(frequent.values())
    return frequent


class EmptyTextError(DataError):
    """A text without tokens."""


def check_not_empty(has_tokens: bool, name: str, unit: str) -> None:
    """Raises DataError unless a text has tokens."""
    if not has_tokens:
        raise EmptyTextError(
            "the text is empty", where=name, hint=f"pass a file that contains {unit}s"
        )
