"""A minimal pair as it is read from a file, and checks of the texts in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ptblm.errors import DataError

# A longer text is not a sentence of a minimal pair. The bound limits the memory of a batch.
MAX_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pair is in a file.

    Attributes:
        file: name of the file in messages.
        number: number of the line or of the item, from 1.
    """

    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(frozen=True, slots=True)
class Continuation:
    """A word and the text before it."""

    prefix: str
    word: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences. A model is right if it finds the first one more probable.

    Attributes:
        place: where the pair is in its file.
        paradigm: name of the set of similar pairs that the pair belongs to.
        good: the grammatical sentence.
        bad: the ungrammatical sentence.
        prefixes: the critical words of both sentences with the texts before them, if the file
            contains them.
        groups: other sets that the pair belongs to, such as {"field": "syntax"}.
    """

    place: Place
    paradigm: str
    good: str
    bad: str
    prefixes: tuple[Continuation, Continuation] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


def checked_text(text: Any, name: str, place: Place | str, *, may_be_empty: bool = False) -> str:
    """Returns a text of a file without the white space around it.

    Args:
        text: the text.
        name: what the text is, in messages.
        place: where the text is.
        may_be_empty: whether the text may be empty.

    Raises:
        DataError: if it is not a text, or is empty, too long, more than one line, or not Unicode.
    """
    problem = None
    if not isinstance(text, str):
        problem = "is missing or is not a text"
    elif not may_be_empty and not text.strip():
        problem = "is empty"
    elif len(text) > MAX_CHARACTERS:
        problem = f"has {len(text):,} characters, more than {MAX_CHARACTERS:,}"
    elif "\n" in text.strip():
        problem = "has more than one line"
    elif any("\ud800" <= character <= "\udfff" for character in text):
        problem = "contains half of a surrogate pair, which is not Unicode text"
    if problem is not None:
        raise DataError(f"{name} {problem}", where=str(place))
    stripped: str = text.strip()
    return stripped


def pairs_of_sentences(sentences: Iterable[tuple[str, str]]) -> list[Pair]:
    """Returns pairs of a grammatical and an ungrammatical sentence as one paradigm.

    Raises:
        DataError: if an element is not a pair, or a sentence is not valid; see `checked_text`.
    """
    pairs: list[Pair] = []
    for number, pair in enumerate(sentences, start=1):
        place = Place("pairs", number)
        # A string of two characters would be unpacked, too.
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"not a pair of sentences: {pair!r:.80}", where=str(place))
        good = checked_text(pair[0], "the grammatical sentence", place)
        bad = checked_text(pair[1], "the ungrammatical sentence", place)
        pairs.append(Pair(place, "pairs", good, bad))
    return pairs
