"""Reads text into ids, at the level that the config asks for: once, block by block.

The ids are written one after another, to memory or to a file. The training text's go by count,
which is known only when all of it was read: until then its tokens have numbers, by first
appearance, in a spare file.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import IO, Any

import numpy as np

from ptblm.corpus.source import Source, Watcher
from ptblm.corpus.splits import Split
from ptblm.corpus.tokenizers.base import Level
from ptblm.corpus.tokenizers.bytes import BYTES, encode_bytes
from ptblm.corpus.tokenizers.characters import encode_characters
from ptblm.corpus.tokenizers.words import encode_words
from ptblm.corpus.vocabulary import EOS, UNK, Ids, Vocabulary, id_type
from ptblm.errors import DataError

Write = Callable[[memoryview], object]


@dataclass(frozen=True)
class Text:
    """A text as ids.

    Attributes:
        ids: of its tokens, shape [N], of the vocabulary's `id_type`; of words and characters,
            `<eos>` after every line.
        unknown: how many tokens were outside the vocabulary and became `<unk>`.
        sha256: of the bytes that were read.
    """

    ids: Ids
    unknown: int
    sha256: str


@dataclass(frozen=True)
class Encoded:
    """A corpus as ids.

    Attributes:
        vocabulary: the training split's tokens.
        splits: the text of each split.
        memory: where the ids are, one split's after another's.
    """

    vocabulary: Vocabulary
    splits: dict[Split, Text]
    memory: mmap | memoryview


@dataclass(frozen=True)
class Written:
    """A text whose ids were written: their number, and the rest as in `Text`."""

    tokens: int
    unknown: int
    sha256: str


def read_text(source: Source, level: Level, vocabulary: Vocabulary) -> Text:
    """The ids of a text's tokens, in memory.

    Raises:
        DataError: if the text is empty, can't be read, should be UTF-8 and is not, or has a word
            that is not in a vocabulary without `<unk>`.
    """
    file = io.BytesIO()
    written = write_text(source, level, vocabulary, file.write)
    return texts_in(file.getbuffer(), vocabulary, {"test": written})["test"]


def read_corpus(sources: Mapping[Split, Source], level: Level) -> Encoded:
    """All splits, in memory.

    Raises:
        DataError: as `read_text` does.
    """
    file = io.BytesIO()
    vocabulary, written = write_corpus(sources, level, file.write, spare=io.BytesIO())
    return Encoded(vocabulary, texts_in(file.getbuffer(), vocabulary, written), file.getbuffer())


def write_corpus(
    sources: Mapping[Split, Source], level: Level, write: Write, spare: IO[bytes]
) -> tuple[Vocabulary, dict[Split, Written]]:
    """Writes the ids of all splits, one after another, in the training split's vocabulary.

    Args:
        sources: of all splits.
        level: what a token is.
        write: takes the ids' bytes, piece by piece.
        spare: a file to write to and read from, for the training text's tokens meanwhile.

    Raises:
        DataError: as `read_text` does.
        OSError: if `write` does, or the spare file can't be written.
    """
    vocabulary, train = write_training_text(sources["train"], level, write, spare)
    written: dict[Split, Written] = {"train": train}
    for split, source in sources.items():
        if split != "train":
            written[split] = write_text(source, level, vocabulary, write)
    return vocabulary, written


def write_text(source: Source, level: Level, vocabulary: Vocabulary, write: Write) -> Written:
    """Writes the ids of a text's tokens.

    Raises:
        DataError: as `read_text` does.
        OSError: if `write` does.
    """
    _refuse_unfit(vocabulary, level)
    digest = hashlib.sha256()
    tokens = unknown = 0
    for ids in _numbers(source, level, vocabulary.ids, digest.update, learn=False):
        is_unknown = ids < 0
        if is_unknown.any():
            unknown += int(is_unknown.sum())
            ids[is_unknown] = vocabulary.ids[UNK]
        write(ids.astype(vocabulary.id_type).data)
        tokens += len(ids)
    return Written(tokens, unknown, digest.hexdigest())


def write_training_text(
    source: Source, level: Level, write: Write, spare: IO[bytes]
) -> tuple[Vocabulary, Written]:
    """Writes the ids of a training text's tokens, and learns the vocabulary from it.

    Raises:
        DataError: if the text is empty, can't be read, or should be UTF-8 and is not.
        OSError: if `write` does, or the spare file can't be written.
    """
    if level == "byte":
        byte_counts = np.zeros(len(BYTES), dtype=np.int64)

        def write_counted(data: memoryview) -> object:
            np.add(byte_counts, np.bincount(data, minlength=len(BYTES)), out=byte_counts)
            return write(data)

        written = write_text(source, level, BYTES, write_counted)
        return Vocabulary(BYTES.words, byte_counts.tolist()), written
    numbers = {EOS: 0} if level == "word" else {EOS: 0, UNK: 1}
    digest = hashlib.sha256()
    counts = np.zeros(1, dtype=np.int64)
    blocks: list[tuple[np.dtype[Any], int]] = []
    for block in _numbers(source, level, numbers, digest.update, learn=True):
        if len(counts) < len(numbers):
            counts = np.append(counts, np.zeros(2 * len(numbers) - len(counts), dtype=np.int64))
        np.add.at(counts, block, 1)
        kind = id_type(len(numbers))
        spare.write(block.astype(kind).data)
        blocks.append((kind, len(block)))
    by_count = dict(zip(numbers, counts.tolist(), strict=False))
    vocabulary = Vocabulary.from_counts(Counter(by_count))
    ids = np.array([vocabulary.ids[symbol] for symbol in numbers], dtype=vocabulary.id_type)
    spare.seek(0)
    for kind, length in blocks:
        write(ids[np.frombuffer(spare.read(length * kind.itemsize), dtype=kind)].data)
    return vocabulary, Written(sum(length for _, length in blocks), 0, digest.hexdigest())


def texts_in(
    file: mmap | memoryview, vocabulary: Vocabulary, written: Mapping[Split, Written]
) -> dict[Split, Text]:
    """The texts whose ids a file begins with, one after another; these stay in it."""
    texts: dict[Split, Text] = {}
    start, kind = 0, vocabulary.id_type
    for split, text in written.items():
        ids: Ids = np.frombuffer(file, dtype=kind, count=text.tokens, offset=start)
        texts[split] = Text(ids, text.unknown, text.sha256)
        start += ids.nbytes
    return texts


def _numbers(
    source: Source, level: Level, numbers: dict[str, int], watch: Watcher, *, learn: bool
) -> Iterator[Ids]:
    """The numbers of a text's tokens, an array for each block."""
    match level:
        case "word":
            return encode_words(source, numbers, watch, learn=learn)
        case "char":
            return encode_characters(source, numbers, watch, learn=learn)
        case "byte":
            return encode_bytes(source, watch)


def _refuse_unfit(vocabulary: Vocabulary, level: Level) -> None:
    """Raises DataError if a vocabulary lacks what the level can't do without."""
    if level == "byte" and vocabulary.words != BYTES.words:
        raise DataError("the vocabulary is not that of the 256 bytes")
    for mark in {"word": [EOS], "char": [EOS, UNK], "byte": []}[level]:
        if mark not in vocabulary.ids:
            raise DataError(f"the vocabulary has no {mark}")
