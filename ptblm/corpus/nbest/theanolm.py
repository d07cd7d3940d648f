"""TheanoLM's n-best lists: rows of SRILM's format with the id of the utterance in front.

`utt ascore lscore nwords word word ...`, with logarithms to base 10.
"""

import re
from collections.abc import Iterator, Sequence

from ptblm.corpus.nbest.hypothesis import Format, Hypothesis, ReadOptions, Utterance, grouped
from ptblm.corpus.nbest.rows import Row, read_rows
from ptblm.corpus.nbest.srilm import parse_scores

_ID = re.compile(r"\s*(\S+)\s+")


def _read(paths: Sequence[str], _options: ReadOptions) -> Iterator[Utterance]:
    return grouped(_parse(row) for path in paths for row in read_rows(path) if row.text.strip())


def _parse(row: Row) -> Hypothesis:
    match = _ID.match(row.text)
    if match is None:
        raise row.error(
            "the row has only one field", hint="expected `utterance ascore lscore nwords words...`"
        )
    return parse_scores(row, row.text[match.end() :], match[1], match[0])


FORMAT = Format("theanolm", 10.0, "nbest", 12.0, read=_read, score="language")
