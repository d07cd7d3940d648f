"""Caches the ids of large corpora, so that they are tokenized once and mapped into memory.

Each combination of corpus and tokenizer has a private directory in the user's cache. Its file `ids`
is described in `cache_file.py`.

A cached corpus is used only if the hashes of its texts match. The texts are hashed at every start,
at more than 1 GB/s. Comparing sizes and modification times would be faster, but would miss a text
that was replaced within the resolution of the clock or copied with its times.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ptblm.config.data import DataConfig
from ptblm.corpus.cache_file import CacheEntry, load_cache, write_cache
from ptblm.corpus.reader import EncodedCorpus
from ptblm.corpus.splits import RawCorpus
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.files import has_one_name, make_private_directory, remove_temporary_files

logger = logging.getLogger(__name__)


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
    entry = CacheEntry(config, vocabulary, raw)
    try:
        directory = _make_directory(_entry_name(raw.location, name, config.tokenizer))
        path = directory / "ids"
        cached = load_cache(path, entry)
        if cached is not None:
            logger.debug("%s: read the encoded text from %s", name, path)
            return cached
        with _locked(directory, name):
            remove_temporary_files(directory, "ids")
            # Another process may have written it in the meantime.
            cached = load_cache(path, entry)
            if cached is None:
                write_cache(path, entry)
                logger.debug("%s: encoded the text and wrote %s", name, path)
                cached = load_cache(path, entry)
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
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # A relative path must be ignored (XDG Base Directory Specification).
        return (cache if cache.is_absolute() else Path.home() / ".cache") / "ptblm"
    except RuntimeError as error:
        raise OSError(str(error)) from None


def _make_directory(name: str) -> Path:
    """Creates the private directory of a corpus, because the text may be licensed.

    Raises:
        OSError: if it cannot be created, is a link, or belongs to another user.
    """
    cache = cache_directory()
    # A directory that the user chose, and that may contain other files, keeps its permissions.
    if not (os.environ.get("PTBLM_CACHE") and cache.is_dir()):
        make_private_directory(cache)
    make_private_directory(cache / name)
    return cache / name


def _entry_name(location: Path, name: str, tokenizer_name: str) -> str:
    """Returns one name per location and tokenizer, so that a changed text replaces its ids."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(location))).hexdigest()
    return f"{name[:40]}-{tokenizer_name}-{digest[:12]}"


@contextmanager
def _locked(directory: Path, name: str) -> Iterator[None]:
    """Holds the directory's lock; waits for a process that is writing to it.

    Raises:
        OSError, NotImplementedError: if the file system has no locks.
    """
    path = directory / "lock"
    with suppress(FileNotFoundError):
        if not has_one_name(path.lstat()):
            path.unlink()  # filelock would follow a link and truncate the file
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that is caching %s", name)
        lock.acquire(poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()
