"""Reads text into arrays of word ids, line by line: a line is its words and `<eos>`."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import EOS, Vocabulary
from ptblm.errors import DataError

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Text:
    """A text as ids.

    Attributes:
        ids: word ids, `<eos>` after every line, shape [N].
        unknown_words: how many words were outside the vocabulary and became `<unk>`.
        sha256: of the bytes that were read.
    """

    ids: Ids
    unknown_words: int
    sha256: str


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a training text.

    Raises:
        DataError: if the file can't be read, is no UTF-8 or is empty.
    """
    counts: Counter[str] = Counter()
    lines = 0
    with _opened(path) as raw_lines:
        for _, words in _words(raw_lines, str(path)):
            counts.update(words)
            lines += 1
    counts[EOS] += lines
    _refuse_empty(counts.total() > lines, str(path))
    return Vocabulary.from_counts(counts)


def read_text(path: Path, vocabulary: Vocabulary) -> Text:
    """The ids of a file's words.

    Raises:
        DataError: if the file can't be read, is no UTF-8, is empty, or has a word that is not
            in a vocabulary without `<unk>`.
    """
    with _opened(path) as raw_lines:
        return encode_lines(raw_lines, str(path), vocabulary)


def encode_lines(raw_lines: Iterable[bytes], name: str, vocabulary: Vocabulary) -> Text:
    """The ids of lines of UTF-8 bytes; `name` is how messages call their source.

    Raises:
        DataError: as `read_text` does.
    """
    ids = array("i")
    find = vocabulary.ids.get
    unk = vocabulary.unk_id
    if EOS not in vocabulary.ids:
        raise DataError(f"the vocabulary has no {EOS}")
    eos = vocabulary.ids[EOS]
    unknown_words = 0
    any_word = False
    digest = hashlib.sha256()
    for number, words in _words(_hashed(raw_lines, digest), name):
        any_word = any_word or bool(words)
        for word in words:
            index = find(word)
            if index is None:
                if unk is None:
                    raise DataError(
                        f"'{word[:60]}' is not in the vocabulary, which has no <unk> to stand in",
                        where=f"{name}:{number}",
                        hint="use text of the training text's words, or put <unk> into that text",
                    )
                unknown_words += 1
                index = unk
            ids.append(index)
        ids.append(eos)
    _refuse_empty(any_word, name)
    return Text(np.frombuffer(ids, dtype=np.int32), unknown_words, digest.hexdigest())


def _refuse_empty(any_word: bool, name: str) -> None:
    if not any_word:
        raise DataError("the text is empty", where=name, hint="give a file with words in it")


def _words(raw_lines: Iterable[bytes], name: str) -> Iterator[tuple[int, list[str]]]:
    """The number (from 1) and the words of each line."""
    for number, raw in enumerate(raw_lines, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"not UTF-8 text (byte {error.start + 1} of the line)",
                where=f"{name}:{number}",
                hint="convert the file to UTF-8, for instance with iconv",
            ) from None
        yield number, line.split()


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", where=str(path)) from None


def _hashed(raw_lines: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for raw in raw_lines:
        digest.update(raw)
        yield raw
