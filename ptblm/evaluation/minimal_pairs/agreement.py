"""Reads the number agreement files of Gulordava et al. (2018): X.text, X.eval and X.gold.

The files are aligned by line. X.text contains a sentence, which ends with `<eos>`; X.eval the index
of the target word in it, from 0; X.gold a table without a header. In the tables of Gulordava et
al., columns 7 and 8 are the right and the wrong form of the target; in their version of the test
set of Linzen et al. (2016), the columns are the index, the right form, the wrong form and the
number of attractors.

The model reads the file as one text, and its hidden state is never reset.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ptblm.corpus.vocabulary import EOS
from ptblm.errors import DataError
from ptblm.evaluation.minimal_pairs.pair import MAX_CHARACTERS, Pair, Place, checked_text

SUFFIXES = (".text", ".eval", ".gold")
# Columns of the two kinds of tables.
_LINZEN_COLUMNS, _MIN_COLUMNS = 4, 8


@dataclass(frozen=True)
class AgreementLine:
    """A sentence of the text, and the two forms of its target word.

    Attributes:
        pair: the sentence with the right and with the wrong form.
        before: the words before the target.
        rest: the words from the target on, as they are in the text.
        right: the right form.
        wrong: the wrong form.
    """

    pair: Pair
    before: str
    rest: str
    right: str
    wrong: str


@dataclass(frozen=True)
class AgreementText:
    """The lines of the text in order."""

    lines: list[AgreementLine]


def read_agreement(contents: Sequence[Sequence[str]], name: str, stem: str) -> AgreementText:
    """Returns the lines of the three files.

    Args:
        contents: the lines of X.text, X.eval and X.gold.
        name: the path of the files without a suffix, for messages.
        stem: the name of the files without a suffix.

    Raises:
        DataError: if the numbers of lines differ, or a line is not valid.
    """
    sizes = [len(content) for content in contents]
    if len(set(sizes)) > 1:
        lines = ", ".join(
            f"{suffix} has {size:,}" for suffix, size in zip(SUFFIXES, sizes, strict=True)
        )
        raise DataError(
            f"the files have different numbers of lines: {lines}",
            where=name,
            hint="download them again; all three files have one line per sentence",
        )
    text = [
        _line(Place(name, number), stem, *columns)
        for number, columns in enumerate(zip(*contents, strict=True), start=1)
    ]
    if text and not text[0].before:
        raise DataError(
            "the target is the first word of the text, which has no context",
            where=f"{name}.eval:1",
        )
    return AgreementText(text)


def _line(place: Place, stem: str, sentence: str, index: str, gold: str) -> AgreementLine:
    text = checked_text(sentence, "the sentence", f"{place.file}.text:{place.number}")
    words = text.split()
    if words[-1] == EOS:
        words.pop()
    target = _index(index, len(words), f"{place.file}.eval:{place.number}")
    columns, where = gold.split("\t"), f"{place.file}.gold:{place.number}"
    paradigm, groups = stem, {}
    if len(columns) == _LINZEN_COLUMNS:
        forms = columns[1:3]
        groups = {"attractors": checked_text(columns[3], "the number of attractors", where)}
    elif len(columns) >= _MIN_COLUMNS:
        forms = columns[6:8]
        paradigm = f"{stem}, {'original' if columns[2] == '0' else 'nonce'}"
        groups = {"construction": checked_text(columns[0], "the construction", where)}
    else:
        raise DataError(
            f"{len(columns):,} columns, but 4 or at least 8 were expected",
            where=where,
            hint="columns are separated by tabs",
        )
    right, wrong = (checked_text(form, "the form", where) for form in forms)
    before, after = words[:target], words[target + 1 :]
    good, bad = (" ".join([*before, form, *after]) for form in (right, wrong))
    return AgreementLine(
        Pair(place, paradigm, good, bad, groups=groups),
        " ".join(before),
        " ".join(words[target:]),
        right,
        wrong,
    )


def _index(text: str, words: int, where: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) < len(str(MAX_CHARACTERS))):
        raise DataError(f"'{digits[:60]}' is not the index of a word", where=where)
    if int(digits) >= words:
        raise DataError(
            f"the target has index {digits}, but the sentence has {words:,} words", where=where
        )
    return int(digits)
