"""Caches the ids of large corpora, so that they are tokenized once and mapped into memory.

Each combination of corpus and tokenizer has a directory in the user's cache. Its file `ids`
contains, in this order: the ids of the splits; a JSON document with the vocabulary and a
description of the corpus; the length of the JSON document; the SHA-256 of everything before it.

A cached corpus is used only if the hashes of its texts match. The texts are hashed at every start,
at more than 1 GB/s. Comparing sizes and modification times would be faster, but would miss a text
that was replaced within the resolution of the clock or copied with its times.
"""

import hashlib
import json
import logging
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from ptblm.config.data import DataConfig
from ptblm.corpus.reader import (
    EncodedCorpus,
    IdRange,
    WrittenCorpus,
    split_ids,
    write_corpus,
)
from ptblm.corpus.source import BLOCK_SIZE
from ptblm.corpus.splits import RawCorpus
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.files import replacing

logger = logging.getLogger(__name__)

FORMAT = 3
_LENGTH_SIZE, _DIGEST_SIZE = 8, 32  # in bytes


def cached_corpus(
    name: str, config: DataConfig, vocabulary: Vocabulary | None, raw: RawCorpus
) -> EncodedCorpus | None:
    """Loads a corpus from the cache and adds it to the cache if necessary.

    Args:
        name: name of the corpus, for messages and for the cache directory.
        config: the config of the corpus.
        vocabulary: the vocabulary to use; None to build one.
        raw: the files of the corpus.

    Returns:
        The corpus, or None if it could not be cached; the reason is logged.

    Raises:
        DataError: if the texts cannot be read.
    """
    if not (os.path.isdir(raw.location) or os.path.isfile(raw.location)):
        return None  # a pipe, whose text is unlikely to be read again
    entry = _Entry(config, vocabulary, raw)
    try:
        directory = cache_directory() / _entry_name(raw.location, name, config.tokenizer)
        path = directory / "ids"
        cached = _load(path, entry)
        if cached is not None:
            return cached
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # the text may be licensed
        with _locked(directory, name):
            # Another process may have written it in the meantime.
            cached = _load(path, entry)
            if cached is None:
                _write(path, entry)
                cached = _load(path, entry)
        if cached is None:
            raise OSError("the file differs from the written data")
    except (OSError, NotImplementedError) as error:
        logger.info("%s could not be cached; keeping it in memory: %s", name, error)
        return None
    return cached


@dataclass(frozen=True)
class _Entry:
    """What is cached: everything that determines the ids."""

    config: DataConfig
    vocabulary: Vocabulary | None
    raw: RawCorpus

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that determines the ids, as JSON values. The texts are hashed once."""
        tokens = None if self.vocabulary is None else "\n".join(self.vocabulary.tokens)
        return {
            "format": FORMAT,
            "byte order": sys.byteorder,
            "config": self.config.model_dump(exclude={"path": True, "vocabulary": {"file"}}),
            "vocabulary": tokens and hashlib.sha256(tokens.encode()).hexdigest(),
            "splits": list(self.raw.files),
            "texts": [source.sha256() for source in self.raw.sources],
        }


def cache_directory() -> Path:
    """Returns PTBLM_CACHE, or the `ptblm` directory in the user's cache.

    Raises:
        OSError: if the user has no home directory.
    """
    if directory := os.environ.get("PTBLM_CACHE"):
        return Path(directory)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptblm"
    except RuntimeError as error:
        raise OSError(str(error)) from None


def _entry_name(location: Path, name: str, tokenizer_name: str) -> str:
    """Returns one name per location and tokenizer, so that a changed text replaces its ids."""
    digest = hashlib.sha256(os.fsencode(location.resolve())).hexdigest()
    return f"{name[:40]}-{tokenizer_name}-{digest[:12]}"


@contextmanager
def _locked(directory: Path, name: str) -> Iterator[None]:
    """Holds the directory's lock; waits for a process that is writing to it.

    Raises:
        OSError, NotImplementedError: if the file system has no locks.
    """
    lock = FileLock(directory / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that is caching %s", name)
        lock.acquire(poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, entry: _Entry) -> None:
    """Writes a corpus to the cache."""
    digest = hashlib.sha256()
    with replacing(path) as file, tempfile.TemporaryFile(dir=path.parent) as spare:

        def write(data: bytes | memoryview) -> None:
            digest.update(data)
            file.write(data)

        written = write_corpus(entry.raw, entry.config, entry.vocabulary, write=write, spare=spare)
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
        if _Entry(entry.config, entry.vocabulary, entry.raw).key != entry.key:
            raise OSError("the text changed while it was read")


def _load(path: Path, entry: _Entry) -> EncodedCorpus | None:
    """Maps a cached corpus into memory; None if it is missing, outdated or damaged."""
    try:
        with path.open("rb") as file:
            document = _read_document(file)
            if document["key"] != entry.key or not _is_intact(file):
                return None
            memory = _map(file)
        vocabulary = Vocabulary(**document["vocabulary"])
        rule = entry.config.vocabulary
        written = WrittenCorpus(
            make_tokenizer(entry.config.tokenizer, vocabulary, rule),
            {split: IdRange(**text) for split, text in document["ranges"].items()},
            document["split_rule"],
            document["notes"],
        )
        return EncodedCorpus(written, split_ids(memory, written.tokenizer, written.ranges), memory)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


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


def _read_document(file: IO[bytes]) -> dict[str, Any]:
    """Returns the JSON document of a cached corpus."""
    end = file.seek(-_LENGTH_SIZE - _DIGEST_SIZE, os.SEEK_END)
    length = int.from_bytes(file.read(_LENGTH_SIZE), "little")
    file.seek(end - length)
    return dict(json.loads(file.read(length)))


def _is_intact(file: IO[bytes]) -> bool:
    """Returns whether the digest of a file matches its content."""
    rest = file.seek(-_DIGEST_SIZE, os.SEEK_END)
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(min(BLOCK_SIZE, rest)):
        digest.update(piece)
        rest -= len(piece)
    return file.read() == digest.digest()
