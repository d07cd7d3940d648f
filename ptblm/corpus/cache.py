"""Caches the ids of large corpora, so that they are tokenized once and mapped into memory.

Each combination of corpus and tokenizer has a directory in the user's cache. Its file `ids`
contains, in this order: the ids of the splits; a JSON document with the vocabulary and a
description of each split; the length of the JSON document; the SHA-256 of everything before it.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from ptblm.corpus.reader import EncodedCorpus, IdRange, split_ids, write_corpus
from ptblm.corpus.source import BLOCK_SIZE, Source
from ptblm.corpus.splits import Split
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.files import replacing

logger = logging.getLogger(__name__)

FORMAT = 2
_LENGTH_SIZE, _DIGEST_SIZE = 8, 32  # in bytes


def cached_corpus(
    location: Path, name: str, tokenizer_name: str, sources: Mapping[Split, Source]
) -> EncodedCorpus | None:
    """Loads a corpus from the cache and adds it to the cache if necessary.

    Args:
        location: the directory or file of the corpus.
        name: name of the corpus, for messages and for the cache directory.
        tokenizer_name: "word", "char" or "byte".
        sources: the text of each split.

    Returns:
        The corpus, or None if it could not be cached; the reason is logged.

    Raises:
        DataError: if the texts cannot be read.
    """
    try:
        directory = cache_directory() / _entry_name(location, name, tokenizer_name)
        path = directory / "ids"
        cached = _load(path, tokenizer_name, sources)
        if cached is not None:
            return cached
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # the text may be licensed
        with _locked(directory, name):
            # Another process may have written it in the meantime.
            cached = _load(path, tokenizer_name, sources)
            if cached is None:
                hashes = _write(path, tokenizer_name, sources)
                cached = _load(path, tokenizer_name, sources, hashes)
        if cached is None:
            raise OSError("the file differs from the written data")
    except (OSError, NotImplementedError) as error:
        logger.info("%s could not be cached; keeping it in memory: %s", name, error)
        return None
    return cached


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


def _write(path: Path, tokenizer_name: str, sources: Mapping[Split, Source]) -> dict[Split, str]:
    """Writes a corpus to the cache and returns the hash of each split."""
    digest = hashlib.sha256()
    with replacing(path) as file, tempfile.TemporaryFile(dir=path.parent) as spare:

        def write(data: bytes | memoryview) -> None:
            digest.update(data)
            file.write(data)

        tokenizer, written = write_corpus(sources, tokenizer_name, write, spare)
        vocabulary = tokenizer.vocabulary
        document = {
            **_key(tokenizer_name, sources),
            "vocabulary": {"tokens": vocabulary.tokens, "counts": vocabulary.counts},
            "splits": {split: asdict(text) for split, text in written.items()},
        }
        as_json = json.dumps(document).encode()
        write(as_json)
        write(len(as_json).to_bytes(_LENGTH_SIZE, "little"))
        file.write(digest.digest())
    return {split: text.sha256 for split, text in written.items()}


def _load(
    path: Path,
    tokenizer_name: str,
    sources: Mapping[Split, Source],
    hashes: Mapping[Split, str] | None = None,
) -> EncodedCorpus | None:
    """Maps a cached corpus into memory; None if it is missing, outdated or damaged.

    Args:
        path: the file.
        tokenizer_name: "word", "char" or "byte".
        sources: the text of each split.
        hashes: hashes of the texts; None to compute them.
    """
    try:
        with path.open("rb") as file:
            document = _read_document(file)
            key = _key(tokenizer_name, sources)
            if {name: document[name] for name in key} != key:
                return None
            written = {split: IdRange(**document["splits"][split]) for split in sources}
            for split, source in sources.items():
                if written[split].sha256 != (hashes[split] if hashes else source.sha256()):
                    return None
            if not _is_intact(file):
                return None
            memory = _map(file)
        tokenizer = make_tokenizer(tokenizer_name, Vocabulary(**document["vocabulary"]))
        return EncodedCorpus(tokenizer, split_ids(memory, tokenizer, written), memory)
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


def _key(tokenizer_name: str, sources: Mapping[Split, Source]) -> dict[str, Any]:
    """Returns everything that determines the ids, except the texts."""
    return {
        "format": FORMAT,
        "byte order": sys.byteorder,
        "tokenizer": tokenizer_name,
        "space separated": [source.space_separated for source in sources.values()],
    }


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
