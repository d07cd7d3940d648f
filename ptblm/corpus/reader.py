"""Encodes text as ids in one pass, block by block, in bounded memory.

The ids of all splits are written one after another to memory or to a file. Final ids are sorted by
count, which is known only at the end of the training split. Until then, its tokens have provisional
ids, in order of first appearance, in a temporary file.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.source import Source, TextBlocks
from ptblm.corpus.splits import Split
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Ids, id_dtype

Write = Callable[[memoryview], object]


@dataclass(frozen=True)
class EncodedText:
    """A text encoded as ids.

    Attributes:
        ids: token ids, [N], of the vocabulary's `id_dtype`.
        unknown: number of tokens that were not in the vocabulary and became `<unk>`.
        sha256: SHA-256 of the bytes of the text, in hexadecimal.
    """

    ids: Ids
    unknown: int
    sha256: str


@dataclass(frozen=True)
class EncodedCorpus:
    """All splits of a corpus encoded as ids.

    Attributes:
        tokenizer: the tokenizer, with the vocabulary of the training split.
        splits: the text of each split.
        memory: the buffer that contains the ids of all splits, one after another.
    """

    tokenizer: Tokenizer
    splits: dict[Split, EncodedText]
    memory: mmap | memoryview


@dataclass(frozen=True)
class IdRange:
    """Describes written ids: the number of tokens, and the attributes of `EncodedText`."""

    tokens: int
    unknown: int
    sha256: str


def read_text(source: Source, tokenizer: Tokenizer) -> EncodedText:
    """Encodes a text in memory.

    Raises:
        DataError: if the text is empty, cannot be read, cannot be tokenized, or contains an unknown
            word and the vocabulary does not contain `<unk>`.
    """
    file = io.BytesIO()
    written = write_text(source, tokenizer, file.write)
    return split_ids(file.getbuffer(), tokenizer, {"test": written})["test"]


def read_corpus(sources: Mapping[Split, Source], tokenizer_name: str) -> EncodedCorpus:
    """Encodes all splits in memory.

    Raises:
        DataError: see `read_text`.
    """
    file = io.BytesIO()
    tokenizer, written = write_corpus(sources, tokenizer_name, file.write, spare=io.BytesIO())
    memory = file.getbuffer()
    return EncodedCorpus(tokenizer, split_ids(memory, tokenizer, written), memory)


def write_corpus(
    sources: Mapping[Split, Source], tokenizer_name: str, write: Write, spare: IO[bytes]
) -> tuple[Tokenizer, dict[Split, IdRange]]:
    """Writes the ids of all splits one after another, the training split first.

    Args:
        sources: the text of each split.
        tokenizer_name: a name for `make_tokenizer`.
        write: receives the bytes of the ids piece by piece.
        spare: an empty file for provisional ids, open for reading and writing.

    Returns:
        The tokenizer with the vocabulary of the training split, and the written range of each
        split.

    Raises:
        DataError: see `read_text`.
        OSError: if `write` fails or the spare file cannot be written.
    """
    tokenizer = make_tokenizer(tokenizer_name)
    train = write_training_text(sources["train"], tokenizer, write, spare)
    written: dict[Split, IdRange] = {"train": train}
    for split, source in sources.items():
        if split != "train":
            written[split] = write_text(source, tokenizer, write)
    return tokenizer, written


def write_text(source: Source, tokenizer: Tokenizer, write: Write) -> IdRange:
    """Writes the token ids of a text.

    Raises:
        DataError: see `read_text`.
        OSError: if `write` fails.
    """
    dtype, unk_id = tokenizer.vocabulary.id_dtype, tokenizer.vocabulary.unk_id
    blocks = TextBlocks(source, tokenizer.block_end)
    tokens = unknown = 0
    for ids in tokenizer.encode(blocks):
        if unk_id is not None:
            is_unknown = ids < 0
            if is_unknown.any():
                unknown += int(is_unknown.sum())
                ids[is_unknown] = unk_id
        write(ids.astype(dtype, copy=False).data)
        tokens += len(ids)
    return IdRange(tokens, unknown, blocks.sha256)


def write_training_text(
    source: Source, tokenizer: Tokenizer, write: Write, spare: IO[bytes]
) -> IdRange:
    """Builds the vocabulary of the tokenizer from the training split and writes its ids.

    Raises:
        DataError: if the text is empty, cannot be read or cannot be tokenized.
        OSError: if `write` fails or the spare file cannot be written.
    """
    write_block = write if tokenizer.keeps_ids else spare.write
    counts = np.zeros(len(tokenizer.ids), dtype=np.int64)
    written: list[tuple[np.dtype[Any], int]] = []
    blocks = TextBlocks(source, tokenizer.block_end)
    for ids in tokenizer.encode(blocks, grow_vocabulary=True):
        size = len(tokenizer.ids)
        if len(counts) < size:
            counts = np.append(counts, np.zeros(2 * size - len(counts), dtype=np.int64))
        _count(ids, counts)
        dtype = id_dtype(size)
        write_block(ids.astype(dtype, copy=False).data)
        written.append((dtype, len(ids)))
    final_ids = tokenizer.finish_vocabulary(counts[: len(tokenizer.ids)])
    if not tokenizer.keeps_ids:
        spare.seek(0)
        for dtype, length in written:
            ids = np.frombuffer(spare.read(length * dtype.itemsize), dtype=dtype)
            write(final_ids[ids].data)
    return IdRange(sum(length for _, length in written), 0, blocks.sha256)


def split_ids(
    memory: mmap | memoryview, tokenizer: Tokenizer, written: Mapping[Split, IdRange]
) -> dict[Split, EncodedText]:
    """Returns the splits whose ids are stored consecutively in `memory`, without copying them."""
    splits: dict[Split, EncodedText] = {}
    start, dtype = 0, tokenizer.vocabulary.id_dtype
    for split, text in written.items():
        ids: Ids = np.frombuffer(memory, dtype=dtype, count=text.tokens, offset=start)
        splits[split] = EncodedText(ids, text.unknown, text.sha256)
        start += ids.nbytes
    return splits


def _count(ids: Ids, counts: NDArray[np.int64]) -> None:
    """Adds the occurrences of each id to `counts`."""
    if ids.dtype == np.uint8:  # counting two bytes at a time is twice as fast
        even = len(ids) // 2 * 2
        pairs = np.bincount(ids[:even].view("<u2"), minlength=2**16).reshape(2**8, 2**8)
        counts += pairs.sum(axis=0) + pairs.sum(axis=1)
        ids = ids[even:]
    np.add.at(counts, ids, 1)
