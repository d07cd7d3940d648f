"""Kaldi's n-best lists as text: one hypothesis per row, `utt-K word word ...`.

K is the number of the hypothesis, from 1. A hypothesis without words consists of its id. The lists
contain no scores.
"""

import math
import re
from collections.abc import Iterator, Sequence

from ptblm.corpus.nbest.hypothesis import Format, Hypothesis, Utterance, grouped
from ptblm.corpus.nbest.rows import Row, read_rows

_ROW = re.compile(r"(\S+)-([0-9]{1,9})(?:[ \t](.*))?", re.DOTALL)


def _read(paths: Sequence[str], _size: int | None) -> Iterator[Utterance]:
    hypotheses = (_parse(row) for path in paths for row in read_rows(path) if row.text.strip())
    for utterance in grouped(hypotheses):
        numbers: set[int] = set()
        for each in utterance:
            if each.number in numbers:
                raise Row(each.before, each.where).error(f"hypothesis '{each.id:.60}' occurs twice")
            numbers.add(each.number)
        yield utterance


def _parse(row: Row) -> Hypothesis:
    match = _ROW.fullmatch(row.text.rstrip("\r"))
    if match is None:
        raise row.error(
            f"'{row.text.split()[0]:.60}' is not the id of a hypothesis",
            hint="each row starts with an id such as utt1-2: utterance, hyphen, number of the "
            "hypothesis",
        )
    utterance, number, text = match.groups("")
    length = len(text.split())
    return Hypothesis(utterance, int(number), text, length, 0.0, 0.0, row.text, "", "", row.where)


FORMAT = Format("kaldi", math.e, "scores", 1.0, read=_read, score="none")
