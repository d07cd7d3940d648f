"""Keeps large corpora as ids, so that they are read once, and take no memory when trained on.

A corpus has a file in the user's cache, of its place and level. In it are the ids of the splits,
one after another; then JSON, with the vocabulary and what is known of each split; then the JSON's
length; then the sha256 of all that.

The file counts only for texts of the same bytes: these are hashed at every start, at more than a
gigabyte a second. Sizes and times would be quicker to ask, and wrong for a text that changed within
a tick of the clock, or was copied with its times.
"""

import hashlib
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ptblm.corpus.reader import Encoded, Written, texts_in, write_corpus
from ptblm.corpus.source import BLOCK, Source
from ptblm.corpus.splits import Split
from ptblm.corpus.tokenizers.base import Level
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.files import replacing
from ptblm.lock import TakenError, locked

FORMAT = 2
_LENGTH, _DIGEST = 8, 32  # bytes of the JSON's length, and of the sha256


def cached_corpus(
    place: Path, name: str, level: Level, sources: Mapping[Split, Source]
) -> Encoded | None:
    """A corpus from the cache, into which it is read first unless it is there.

    Args:
        place: where the corpus is.
        name: how people call it.
        level: what its tokens are.
        sources: the text of all splits.

    Returns:
        None if it can't be kept, which is said on stderr.

    Raises:
        DataError: if the texts can't be read.
    """
    try:
        directory = cache_directory() / _entry_name(place, name, level)
        path = directory / "ids"
        cached = _load(path, level, sources)
        if cached is not None:
            return cached
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # the text may be under licence
        with ExitStack() as stack:
            _await_turn(directory, stack)
            # Who held the lock may have been at the same.
            cached = _load(path, level, sources)
            if cached is None:
                _write(path, level, sources)
                cached = _load(path, level, sources)
        if cached is None:
            raise OSError("what was written is not what is read")
    except OSError as error:
        print(f"note: {name} can't be cached, and takes memory: {error}", file=sys.stderr)
        return None
    return cached


def cache_directory() -> Path:
    """Where corpora are cached: PTBLM_CACHE, or ptblm's directory in the user's cache.

    Raises:
        OSError: if the user has no home.
    """
    if own := os.environ.get("PTBLM_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptblm"
    except RuntimeError as error:
        raise OSError(str(error)) from None


def _entry_name(place: Path, name: str, level: Level) -> str:
    """One for each place and level: when a text changes, its ids take the old ones' place."""
    return f"{name[:40]}-{level}-{hashlib.sha256(os.fsencode(place.resolve())).hexdigest()[:12]}"


def _await_turn(directory: Path, stack: ExitStack) -> None:
    """Takes the directory's lock into the stack, when whoever has it is done."""
    said = False
    while True:
        try:
            stack.enter_context(locked(directory))
        except TakenError as error:
            if not said:
                print(f"note: waiting for {error.holder}, which reads this too", file=sys.stderr)
            said = True
            time.sleep(0.1)
        else:
            return


def _write(path: Path, level: Level, sources: Mapping[Split, Source]) -> None:
    digest = hashlib.sha256()
    with replacing(path) as file, tempfile.TemporaryFile(dir=path.parent) as spare:

        def write(data: bytes | memoryview) -> None:
            digest.update(data)
            file.write(data)

        vocabulary, written = write_corpus(sources, level, write, spare)
        about = {
            **_kind(level, sources),
            "vocabulary": vocabulary.words,
            "counts": vocabulary.counts,
            "splits": {split: asdict(text) for split, text in written.items()},
        }
        as_json = json.dumps(about).encode()
        write(as_json)
        write(len(as_json).to_bytes(_LENGTH, "little"))
        file.write(digest.digest())


def _load(path: Path, level: Level, sources: Mapping[Split, Source]) -> Encoded | None:
    """The corpus in a file; None where there is none, of these texts and undamaged."""
    try:
        with path.open("rb") as file:
            about = _about(file)
            if {key: about[key] for key in _kind(level, sources)} != _kind(level, sources):
                return None
            written = {split: Written(**about["splits"][split]) for split in sources}
            if any(written[split].sha256 != sources[split].sha256() for split in sources):
                return None
            if not _is_whole(file):
                return None
            mapping = _mapped(file)
        vocabulary = Vocabulary(about["vocabulary"], about["counts"])
        return Encoded(vocabulary, texts_in(mapping, vocabulary, written), mapping)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _mapped(file: IO[bytes]) -> mmap.mmap:
    """The file's bytes, which take memory only while they are used.

    Copied on write, since torch knows no memory that is only read; nobody writes to it. So the
    system need not see to it that there is room for a copy of all.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    # Python 3.11 has no name for Linux's.
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
    flags, may = mmap.MAP_PRIVATE | no_reserve, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(file.fileno(), 0, flags=flags, prot=may)


def _kind(level: Level, sources: Mapping[Split, Source]) -> dict[str, Any]:
    """What must be the same, beside the texts, for the ids to be."""
    return {
        "format": FORMAT,
        "byte order": sys.byteorder,
        "level": level,
        "spelled": [source.is_spelled for source in sources.values()],
    }


def _about(file: IO[bytes]) -> dict[str, Any]:
    """The file's JSON."""
    end = file.seek(-_LENGTH - _DIGEST, os.SEEK_END)
    length = int.from_bytes(file.read(_LENGTH), "little")
    file.seek(end - length)
    return dict(json.loads(file.read(length)))


def _is_whole(file: IO[bytes]) -> bool:
    """Whether the file's bytes are those that were written."""
    rest = file.seek(-_DIGEST, os.SEEK_END)
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(min(BLOCK, rest)):
        digest.update(piece)
        rest -= len(piece)
    return file.read() == digest.digest()
