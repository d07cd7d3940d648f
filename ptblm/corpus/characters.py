"""Reads text character by character: every one a token as it is, and `<eos>` for a line's end.

Only a newline ends a line; a carriage return, a tab, a space are characters like any other. The
last line has its `<eos>` even where no newline ends it, as the word reader has it.

The vocabulary has an `<unk>` of its own, so that any text can be scored: characters that the
training text lacks become it. It is never a target in training, where the softmax soon gives it
next to nothing: it was measured to take 0.000002 bits per character (docs/results.md). (The
characters `<unk>` of the Penn Treebank's own files are five tokens, as all published figures have
it.)
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.source import Source, decode, refuse_empty
from ptblm.corpus.vocabulary import EOS, UNK, Ids, Vocabulary
from ptblm.errors import DataError

_CODE_POINTS = 0x110000


def character_vocabulary(source: Source) -> Vocabulary:
    """The characters of a training text, `<eos>`, and `<unk>`.

    Raises:
        DataError: if the text is no UTF-8 or is empty.
    """
    occurrences = np.bincount(_code_points(source))
    counts = Counter({chr(point): int(occurrences[point]) for point in occurrences.nonzero()[0]})
    counts[EOS] = counts.pop("\n")
    counts[UNK] = 0
    return Vocabulary.from_counts(counts)


def encode_characters(source: Source, vocabulary: Vocabulary) -> tuple[Ids, int]:
    """The ids of a text's characters, and how many of these were unknown.

    Raises:
        DataError: if the text is no UTF-8 or is empty.
    """
    for mark in (EOS, UNK):
        if mark not in vocabulary.ids:
            raise DataError(f"the vocabulary has no {mark}")
    id_of = np.full(_CODE_POINTS, -1, dtype=np.int32)
    for symbol, index in vocabulary.ids.items():
        if len(symbol) == 1:
            id_of[ord(symbol)] = index
    id_of[ord("\n")] = vocabulary.ids[EOS]
    ids = id_of[_code_points(source)]
    unknown = ids < 0
    ids[unknown] = vocabulary.ids[UNK]
    return ids, int(unknown.sum())


def _code_points(source: Source) -> NDArray[Any]:
    """The text's code points, a newline after every line: one array, not millions of objects."""
    text = decode(source.raw, source.name, source.first_line)
    if source.is_spelled:
        text = text.replace(" ", "").replace("_", " ")
    refuse_empty(bool(text), source.name, "character")
    if not text.endswith("\n"):
        text += "\n"
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
