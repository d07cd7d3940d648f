"""Encodes text as ids in one pass, block by block, in bounded memory.

The ids of all splits are written one after another to memory or to a file. Final ids are sorted by
count, which is known only at the end of the training split. Until then, its tokens have provisional
ids, in order of first appearance, in a temporary file.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ptblm.config.data import DataConfig
from ptblm.corpus.layout import Split
from ptblm.corpus.parts import (
    EncodedPart,
    EncodedParts,
    count_ids,
    encoded_parts,
    write_provisional,
)
from ptblm.corpus.source import Source, TextBlocks
from ptblm.corpus.splits import RawCorpus, prepare_splits
from ptblm.corpus.text_size import TextSize, text_size
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import EmptyTextError, Tokenizer
from ptblm.corpus.unknown_tokens import MAX_SHARE, unknown_tokens_note
from ptblm.corpus.vocabulary import UNK, Ids, Vocabulary

Write = Callable[[memoryview], object]


@dataclass(frozen=True)
class EncodedText:
    """A text encoded as ids.

    Attributes:
        ids: token ids, [N], of the vocabulary's `id_dtype`.
        unknown: number of tokens that were not in the vocabulary and became `<unk>`.
        sha256: SHA-256 of the bytes of the text, in hexadecimal.
        size: the size of the text in words and bytes.
    """

    ids: Ids
    unknown: int
    sha256: str
    size: TextSize


@dataclass(frozen=True)
class IdRange:
    """Describes written ids: the number of tokens, and the attributes of `EncodedText`."""

    tokens: int
    unknown: int
    sha256: str
    size: TextSize


@dataclass(frozen=True)
class WrittenCorpus:
    """Describes a corpus whose ids were written.

    Attributes:
        tokenizer: the tokenizer, with its vocabulary and the counts of the training split.
        ranges: the written range of each split, in order.
        split_rule: how a single file is divided; None if the splits are separate files.
        notes: remarks about the text, one line each.
    """

    tokenizer: Tokenizer
    ranges: dict[Split, IdRange]
    split_rule: str | None
    notes: list[str]


@dataclass(frozen=True)
class EncodedCorpus:
    """All splits of a corpus encoded as ids.

    Attributes:
        written: description of the corpus.
        splits: the text of each split.
        memory: the buffer that contains the ids of all splits, one after another.
    """

    written: WrittenCorpus
    splits: dict[Split, EncodedText]
    memory: mmap | memoryview


def read_text(source: Source, tokenizer: Tokenizer) -> EncodedText:
    """Encodes a text in memory.

    Raises:
        DataError: if the text is empty, cannot be read, cannot be tokenized, or contains an unknown
            word and the vocabulary does not contain `<unk>`.
    """
    file = io.BytesIO()
    written = write_text(source, tokenizer, file.write)
    return split_ids(file.getbuffer(), tokenizer, {"test": written})["test"]


def read_corpus(
    raw: RawCorpus, config: DataConfig, vocabulary: Vocabulary | None = None
) -> EncodedCorpus:
    """Encodes all splits in memory.

    See `write_corpus` for the arguments.

    Raises:
        DataError: see `prepare_splits` and `read_text`.
    """
    file = io.BytesIO()
    written = write_corpus(raw, config, vocabulary, write=file.write, spare=io.BytesIO())
    memory = file.getbuffer()
    return EncodedCorpus(written, split_ids(memory, written.tokenizer, written.ranges), memory)


def write_corpus(
    raw: RawCorpus,
    config: DataConfig,
    vocabulary: Vocabulary | None = None,
    *,
    write: Write,
    spare: IO[bytes],
    directory: Path | None = None,
) -> WrittenCorpus:
    """Writes the ids of all splits one after another, the training split first.

    Args:
        raw: the files of the corpus.
        config: the config of the corpus.
        vocabulary: the tokens and their ids; None to build a vocabulary from the training split.
        write: receives the bytes of the ids piece by piece.
        spare: an empty file for provisional ids, open for reading and writing.
        directory: directory for the temporary files of several processes; None to encode the text
            in one process.

    Raises:
        DataError: see `prepare_splits` and `read_text`.
        OSError: if `write` fails or the spare file cannot be written.
    """
    texts = prepare_splits(raw, config)
    tokenizer = make_tokenizer(config.tokenizer, vocabulary, config.vocabulary)
    train = texts.sources["train"]
    tokenizer.check_text(train)
    ranges: dict[Split, IdRange] = {}
    notes = list(texts.notes)
    if vocabulary is None:
        ranges["train"] = write_training_text(train, tokenizer, write, spare, directory)
        if ranges["train"].unknown:
            notes.append(_rare_tokens_note(tokenizer, ranges["train"]))
    else:
        counts = np.zeros(len(vocabulary), dtype=np.int64)
        ranges["train"] = write_text(train, tokenizer, write, counts)
        tokenizer.vocabulary = vocabulary.with_counts(counts.tolist())
    for split, source in texts.sources.items():
        if split != "train":
            try:
                text = ranges[split] = write_text(source, tokenizer, write)
            except EmptyTextError as error:
                error.problems = [f"the {split} split contains no {tokenizer.unit}"]
                raise
            if text.unknown > MAX_SHARE * text.tokens:
                note = unknown_tokens_note(source, tokenizer, text.unknown, text.tokens)
                notes.append(f"{split} split: {note}")
    return WrittenCorpus(tokenizer, ranges, texts.rule, notes)


def write_text(
    source: Source,
    tokenizer: Tokenizer,
    write: Write,
    counts: NDArray[np.int64] | None = None,
) -> IdRange:
    """Writes the token ids of a text.

    Args:
        source: the text.
        tokenizer: the tokenizer with its vocabulary.
        write: receives the bytes of the ids piece by piece.
        counts: receives the occurrences of each id; None if they are not needed.

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
        if counts is not None:
            count_ids(ids, counts)
        write(ids.astype(dtype, copy=False).data)
        tokens += len(ids)
    return IdRange(tokens, unknown, blocks.sha256, _size(source, tokenizer, tokens))


def write_training_text(
    source: Source,
    tokenizer: Tokenizer,
    write: Write,
    spare: IO[bytes],
    directory: Path | None = None,
) -> IdRange:
    """Builds the vocabulary of the tokenizer from the training split and writes its ids.

    Raises:
        DataError: if the text is empty, cannot be read or cannot be tokenized.
        OSError: if `write` fails or the spare file cannot be written.
    """
    with encoded_parts(source, tokenizer, directory) as encoded:
        if encoded is None:
            blocks = TextBlocks(source, tokenizer.block_end)
            to = write if tokenizer.keeps_ids else spare.write
            counts, lengths = write_provisional(blocks, tokenizer, to)
            spare.seek(0)
            part = EncodedPart(np.arange(len(counts)), lengths, spare)
            encoded = EncodedParts([part], counts, blocks.sha256)
        counts, explicit = encoded.counts, tokenizer.ids.get(UNK)
        final_ids = tokenizer.finish_vocabulary(counts)
        became_unk = final_ids == tokenizer.vocabulary.unk_id  # [provisional ids]
        unknown = 0 if explicit is None else int(counts[became_unk].sum() - counts[explicit])
        if not tokenizer.keeps_ids:
            for part in encoded.parts:
                part.write(final_ids, write)
    tokens = int(counts.sum())
    return IdRange(tokens, unknown, encoded.sha256, _size(source, tokenizer, tokens))


def split_ids(
    memory: mmap | memoryview, tokenizer: Tokenizer, written: Mapping[Split, IdRange]
) -> dict[Split, EncodedText]:
    """Returns the splits whose ids are stored consecutively in `memory`, without copying them."""
    splits: dict[Split, EncodedText] = {}
    start, dtype = 0, tokenizer.vocabulary.id_dtype
    for split, text in written.items():
        ids: Ids = np.frombuffer(memory, dtype=dtype, count=text.tokens, offset=start)
        splits[split] = EncodedText(ids, text.unknown, text.sha256, text.size)
        start += ids.nbytes
    return splits


def _size(source: Source, tokenizer: Tokenizer, tokens: int) -> TextSize:
    """Returns the size of a text; the tokens of a model of words are its words and line ends."""
    return TextSize(tokens, source.size) if tokenizer.unit == "word" else text_size(source)


def _rare_tokens_note(tokenizer: Tokenizer, train: IdRange) -> str:
    """Describes the training tokens that became `<unk>`, and names the limit that decided."""
    rule, unit = tokenizer.rule, tokenizer.unit
    key = "size" if len(tokenizer.vocabulary) == rule.size else "min_count"
    value = rule.size if key == "size" else tokenizer.min_count(has_unk=False)
    return (
        f"{train.unknown:,} of {train.tokens:,} training tokens "
        f"({train.unknown / train.tokens:.1%}) are rare {unit}s and become <unk> "
        f"(data.vocabulary.{key}: {value})"
    )
