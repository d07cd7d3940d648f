"""Reads minimal pairs in the JSON lines of BLiMP (Warstadt et al. 2020) and of BabyLM.

BLiMP: one object per line with `sentence_good`, `sentence_bad`, `UID` (the paradigm), `field` and
`linguistics_term` (the phenomenon). Three of its 67 paradigms spell a field or a phenomenon in
another way than the published results; they get the published names. Some paradigms have the texts
of the prefix methods: `one_prefix_*`, where two words follow the same text, or `two_prefix_*`,
where the same word follows two texts.

BabyLM's supplement to BLiMP contains only the two sentences. The paradigm is then the name of the
file.
"""

from collections.abc import Iterable
from typing import Any

from ptblm.errors import DataError
from ptblm.evaluation.minimal_pairs.pair import Continuation, Pair, Place, checked_text
from ptblm.json_files import JsonError, parse_json

_GROUPS = {"field": "field", "phenomenon": "linguistics_term"}
_PUBLISHED_NAMES = {"syntax/semantics": "syntax_semantics", "s-selection": "argument_structure"}


def read_blimp(lines: Iterable[str], file: str, stem: str) -> list[Pair]:
    """Returns the pairs of a file.

    Args:
        lines: the lines of the file.
        file: name of the file in messages.
        stem: name of the paradigm of pairs without a UID.

    Raises:
        DataError: if a line is not valid.
    """
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = Place(file, number)
        try:
            content = parse_json(line)
        except JsonError as error:
            raise DataError(f"not a line of JSON: {error}", where=str(place)) from None
        pairs.append(_pair(content, place, stem))
    return pairs


def _pair(content: dict[str, Any], place: Place, stem: str) -> Pair:
    def text(name: str) -> str:
        return checked_text(content.get(name), name, place)

    groups = {group: text(name) for group, name in _GROUPS.items() if name in content}
    return Pair(
        place,
        text("UID") if "UID" in content else stem,
        text("sentence_good"),
        text("sentence_bad"),
        _prefixes(content, place),
        {group: _PUBLISHED_NAMES.get(name, name) for group, name in groups.items()},
    )


def _prefixes(content: dict[str, Any], place: Place) -> tuple[Continuation, Continuation] | None:
    """Returns the texts of a prefix method, good and bad; None if the pair has none."""

    def continuation(prefix: str, word: str) -> Continuation:
        return Continuation(
            checked_text(content.get(prefix), prefix, place, may_be_empty=True),
            checked_text(content.get(word), word, place),
        )

    if "one_prefix_prefix" in content:
        return (
            continuation("one_prefix_prefix", "one_prefix_word_good"),
            continuation("one_prefix_prefix", "one_prefix_word_bad"),
        )
    if "two_prefix_word" in content:
        return (
            continuation("two_prefix_prefix_good", "two_prefix_word"),
            continuation("two_prefix_prefix_bad", "two_prefix_word"),
        )
    return None
