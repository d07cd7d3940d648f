"""Reads text character by character: every one a token as it is, and `<eos>` for a line's end.

Only a newline ends a line; a carriage return, a tab, a space are characters like any other. The
last line has its `<eos>` even where no newline ends it, as the word reader has it.

The vocabulary has an `<unk>` of its own, so that any text can be scored: characters that the
training text lacks become it. It is never a target in training, where the softmax soon gives it
next to nothing: it was measured to take 0.000002 bits per character (docs/results.md). (The
characters `<unk>` of the Penn Treebank's own files are five tokens, as all published figures have
it.)
"""

from collections.abc import Iterator

import numpy as np

from ptblm.corpus.source import Source, Watcher, decoded, refuse_empty
from ptblm.corpus.vocabulary import EOS, Ids

_CODE_POINTS = 0x110000


def encode_characters(
    source: Source, numbers: dict[str, int], watch: Watcher, *, learn: bool
) -> Iterator[Ids]:
    """Yields the numbers of a text's characters, in order, an array for each block.

    Args:
        source: the text.
        numbers: of the characters that are known, and of `<eos>`.
        watch: sees the bytes.
        learn: whether unknown characters get numbers, the next ones; if not, they are -1.

    Raises:
        DataError: if the text is no UTF-8 or is empty.
    """
    number_of = np.full(_CODE_POINTS, -1, dtype=np.int32)
    for symbol, number in numbers.items():
        if len(symbol) == 1:
            number_of[ord(symbol)] = number
    number_of[ord("\n")] = numbers[EOS]
    last = ""
    for _, text in decoded(source, "char", watch):
        if source.is_spelled:
            text = text.replace(" ", "").replace("_", " ")
        last = text[-1:] or last
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        found: Ids = number_of[points]
        if learn and (found < 0).any():
            for point in np.unique(points[found < 0]).tolist():
                number_of[point] = numbers[chr(point)] = len(numbers)
            found = number_of[points]
        yield found
    refuse_empty(bool(last), source.name, "character")
    if last != "\n":
        yield number_of[[ord("\n")]]
