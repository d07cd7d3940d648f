"""SRILM's n-best lists: one file per utterance, `ascore lscore nwords word word ...` in each row.

The scores are the logarithms to base 10 of the acoustic model and the language model. The name of
the file without `.gz`, `.Z` and `.score` is the id of the utterance. See nbest-format(5) of SRILM.
"""

import os.path
import re
from collections.abc import Iterator, Sequence

from ptblm.corpus.lines import text_name
from ptblm.corpus.nbest.hypothesis import (
    Format,
    Hypothesis,
    ReadOptions,
    Utterance,
    grouped,
    number_in,
)
from ptblm.corpus.nbest.rows import Row, read_rows
from ptblm.errors import DataError

# Before the language model score, the score, after it; in these: acoustic score, number of words.
_FIELDS = re.compile(r"(\s*(\S+)\s+)(\S+)(\s+(\S+)(?:\s(.*))?)", re.DOTALL)
_SUFFIX = re.compile(r"(\.score)?(\.gz|\.Z)?$")


def utterance_of(path: str) -> str:
    """Returns the id of the utterance whose n-best list a file contains."""
    return _SUFFIX.sub("", os.path.basename(text_name(path).replace(" ", "-")))


def parse_scores(row: Row, text: str, utterance: str, prefix: str = "") -> Hypothesis:
    """Returns the hypothesis in a row.

    Args:
        row: the row, for messages.
        text: the row from the acoustic score on.
        utterance: the id of the utterance.
        prefix: the row before `text`.

    Raises:
        DataError: if the row is not of this format.
    """
    match = _FIELDS.fullmatch(text)
    if match is None:
        raise row.error(
            "the row has fewer than three fields", hint="expected `ascore lscore nwords words...`"
        )
    before, acoustic, language, after, words, spoken = match.groups("")
    hint = None if prefix else "rows that start with the id of an utterance are --format theanolm"
    acoustic_score = number_in(acoustic, row, "acoustic score", hint)
    if not re.fullmatch("[0-9]{1,9}", words):
        raise row.error(f"the number of words '{words:.60}' is not a whole number")
    return Hypothesis(
        utterance,
        0,
        spoken.rstrip("\r"),
        int(words),
        acoustic_score,
        number_in(language, row, "language model score"),
        prefix + before,
        language,
        after,
        row.where,
    )


def _read(paths: Sequence[str], _options: ReadOptions) -> Iterator[Utterance]:
    files: dict[str, str] = {}
    for path in paths:
        utterance = utterance_of(path)
        if utterance in files:
            raise DataError(
                f"utterance '{utterance:.60}' is that of {text_name(files[utterance])} too",
                where=text_name(path),
                hint="the id of an utterance is the name of its file; rename one of the files",
            )
        files[utterance] = path
    return grouped(each for path in paths for each in _file(path))


def _file(path: str) -> Iterator[Hypothesis]:
    utterance, row = utterance_of(path), None
    for row in read_rows(path):
        if row.text.startswith("NBestList"):
            raise row.error(
                f"a Decipher list ({row.text.strip():.20}), which has bytelog scores",
                hint="convert it with `nbest-lattice -no-rescore -no-reorder -keep-noise "
                "-write-nbest - -nbest FILE`",
            )
        if row.text.strip():
            yield parse_scores(row, row.text, utterance)
    if row is None:
        raise DataError("the n-best list is empty", where=text_name(path))


FORMAT = Format("srilm", 10.0, "nbest", 12.0, read=_read, score="language")
