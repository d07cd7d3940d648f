"""Reads text word by word: a line is its words and `<eos>`."""

import io
from array import array
from collections import Counter
from collections.abc import Iterator

import numpy as np

from ptblm.corpus.source import Source, decode, refuse_empty
from ptblm.corpus.vocabulary import EOS, Ids, Vocabulary
from ptblm.errors import DataError


def word_vocabulary(source: Source) -> Vocabulary:
    """The words of a training text.

    Raises:
        DataError: if it is no UTF-8 or has no word.
    """
    counts: Counter[str] = Counter()
    lines = 0
    for _, words in _lines(source):
        counts.update(words)
        lines += 1
    counts[EOS] += lines
    refuse_empty(counts.total() > lines, source.name, "word")
    return Vocabulary.from_counts(counts)


def encode_words(source: Source, vocabulary: Vocabulary) -> tuple[Ids, int]:
    """The ids of a text's words, and how many of these were unknown.

    Raises:
        DataError: if the text is no UTF-8, has no word, or has one that is not in a vocabulary
            without `<unk>`.
    """
    ids = array("i")
    find = vocabulary.ids.get
    unk = vocabulary.unk_id
    if EOS not in vocabulary.ids:
        raise DataError(f"the vocabulary has no {EOS}")
    eos = vocabulary.ids[EOS]
    unknown = 0
    any_word = False
    for number, words in _lines(source):
        any_word = any_word or bool(words)
        for word in words:
            index = find(word)
            if index is None:
                if unk is None:
                    raise DataError(
                        f"'{word[:60]}' is not in the vocabulary, which has no <unk> to stand in",
                        where=f"{source.name}:{number}",
                        hint="use text of the training text's words, put <unk> into that text, "
                        "or train at data.level char",
                    )
                unknown += 1
                index = unk
            ids.append(index)
        ids.append(eos)
    refuse_empty(any_word, source.name, "word")
    return np.frombuffer(ids, dtype=np.int32), unknown


def _lines(source: Source) -> Iterator[tuple[int, list[str]]]:
    """The number and the words of each line."""
    for number, raw in enumerate(io.BytesIO(source.raw), start=source.first_line):
        yield number, decode(raw, source.name, number).split()
