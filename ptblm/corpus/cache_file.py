"""The file of a cached corpus: ids that are mapped into memory, and a JSON document.

It contains, in this order: the ids of the splits; a JSON document with the vocabulary and a
description of the corpus; the length of the JSON document; the SHA-256 of everything before it.

Everything in a file is checked before it is used: it can be damaged, or come from a time when
others could write to the directory.
"""

import hashlib
import json
import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptblm.config.data import DataConfig
from ptblm.corpus.layout import SPLITS, Split
from ptblm.corpus.reader import (
    EncodedCorpus,
    IdRange,
    WrittenCorpus,
    split_ids,
    write_corpus,
)
from ptblm.corpus.source import BLOCK_SIZE
from ptblm.corpus.splits import RawCorpus
from ptblm.corpus.text_size import TextSize
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import DataError
from ptblm.files import open_regular, replacing
from ptblm.json_files import parse_json

FORMAT = 4
_LENGTH_SIZE, _DIGEST_SIZE = 8, 32  # in bytes


@dataclass(frozen=True)
class CacheEntry:
    """What is cached: everything that determines the ids."""

    config: DataConfig
    vocabulary: Vocabulary | None
    raw: RawCorpus

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that determines the ids, as JSON values. The texts are hashed once."""
        symbols = [] if self.vocabulary is None else self.vocabulary.symbols
        joined = "\n".join(symbols).encode(errors="surrogatepass")
        return {
            "format": FORMAT,
            "byte order": sys.byteorder,
            "config": self.config.model_dump(exclude={"path": True, "vocabulary": {"file"}}),
            "vocabulary": hashlib.sha256(joined).hexdigest() if symbols else None,
            "splits": list(self.raw.files),
            "texts": [source.sha256() for source in self.raw.sources],
        }


def write_cache(path: Path, entry: CacheEntry) -> None:
    """Writes a corpus to the cache.

    Raises:
        DataError: if the texts cannot be read.
        OSError: if the file cannot be written, or the texts changed.
    """
    digest = hashlib.sha256()
    with replacing(path) as file, tempfile.TemporaryFile(dir=path.parent) as spare:

        def write(data: bytes | memoryview) -> None:
            digest.update(data)
            file.write(data)

        written = write_corpus(
            entry.raw,
            entry.config,
            entry.vocabulary,
            write=write,
            spare=spare,
            directory=path.parent,
        )
        document = {
            "key": entry.key,
            "vocabulary": written.tokenizer.vocabulary.as_dict(),
            "ranges": {split: asdict(text) for split, text in written.ranges.items()},
            "split_rule": written.split_rule,
            "notes": written.notes,
        }
        as_json = json.dumps(document).encode()
        write(as_json)
        write(len(as_json).to_bytes(_LENGTH_SIZE, "little"))
        file.write(digest.digest())
        if CacheEntry(entry.config, entry.vocabulary, entry.raw).key != entry.key:
            raise OSError("the text changed while it was read")


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Vocabulary(_Model):
    tokens: list[str]
    counts: list[Annotated[int, Field(ge=0, lt=2**62)]]
    merges: list[str] = []


class _Size(_Model):
    words: int = Field(ge=0, lt=2**62)
    utf8_bytes: int = Field(ge=0, lt=2**62)


class _Range(_Model):
    tokens: int = Field(gt=0, lt=2**62)
    unknown: int = Field(ge=0, lt=2**62)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: _Size


class _Document(_Model):
    key: dict[str, Any]
    vocabulary: _Vocabulary
    ranges: dict[Split, _Range]
    split_rule: str | None
    notes: list[str]


def load_cache(path: Path, entry: CacheEntry) -> EncodedCorpus | None:
    """Maps a cached corpus into memory; None if it is missing, outdated or damaged.

    Raises:
        DataError: if the texts cannot be read.
    """
    key = entry.key
    try:
        with open_regular(path, private=True) as file:
            content = _read_document(file)
            if content["key"] != key:
                return None
            document = _Document.model_validate(content)
            vocabulary = Vocabulary(**document.vocabulary.model_dump())
            rule = entry.config.vocabulary
            written = WrittenCorpus(
                make_tokenizer(entry.config.tokenizer, vocabulary, rule),
                {split: _id_range(text) for split, text in document.ranges.items()},
                document.split_rule,
                document.notes,
            )
            _check_ids(file, written, list(entry.raw.files) or list(SPLITS))
            memory = _map(file)
        return EncodedCorpus(written, split_ids(memory, written.tokenizer, written.ranges), memory)
    except (OSError, ValueError, KeyError, DataError):
        return None


def _id_range(text: _Range) -> IdRange:
    size = TextSize(text.size.words, text.size.utf8_bytes)
    return IdRange(text.tokens, text.unknown, text.sha256, size)


def _read_document(file: IO[bytes]) -> dict[str, Any]:
    """Returns the JSON document of a cached corpus.

    Raises:
        ValueError: if there is none, or it takes too much memory.
    """
    end = os.fstat(file.fileno()).st_size - _LENGTH_SIZE - _DIGEST_SIZE
    if end < 0:
        raise ValueError("the file is too short")
    file.seek(end)
    length = int.from_bytes(file.read(_LENGTH_SIZE), "little")
    if length > end:
        raise ValueError("the document is longer than the file")
    file.seek(end - length)
    return parse_json(file.read(length), rest=end - length)


def _check_ids(file: IO[bytes], written: WrittenCorpus, splits: Sequence[Split]) -> None:
    """Checks the digest of a file, and that each id is in the vocabulary.

    Raises:
        ValueError: if the file is damaged.
    """
    vocabulary = written.tokenizer.vocabulary
    tokens = sum(text.tokens for text in written.ranges.values())
    ids_size = tokens * vocabulary.id_dtype.itemsize
    rest = os.fstat(file.fileno()).st_size - _DIGEST_SIZE
    if list(written.ranges) != list(splits) or ids_size > rest:
        raise ValueError("the ranges do not fit the file")
    digest = hashlib.sha256()
    file.seek(0)
    while rest and (piece := file.read(min(BLOCK_SIZE, ids_size or rest))):
        digest.update(piece)
        rest -= len(piece)
        if ids_size:
            ids_size -= len(piece)
            ids = np.frombuffer(piece, dtype=vocabulary.id_dtype)
            if ids.min() < 0 or ids.max() >= len(vocabulary):
                raise ValueError("an id is not in the vocabulary")
    if rest or file.read() != digest.digest():
        raise ValueError("the digest differs")


def _map(file: IO[bytes]) -> mmap.mmap:
    """Maps a file into memory, so that only the parts in use are loaded.

    The mapping is private and writable, because torch does not support read-only memory. It is
    never written to, so no swap space is reserved for a copy.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    # Python 3.11 does not define MAP_NORESERVE; 0x4000 is its value on Linux.
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
    flags, protection = mmap.MAP_PRIVATE | no_reserve, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(file.fileno(), 0, flags=flags, prot=protection)
