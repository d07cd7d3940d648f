"""Kaldi's n-best lists as text: one hypothesis per row, `utt-K word word ...`.

K is the number of the hypothesis, from 1. A hypothesis without words consists of its id. The lists
contain no scores. Kaldi's recipes for n-best rescoring keep them in other files of the directory,
with a row `utt-K cost` for each hypothesis: `acwt` the acoustic costs, `lmwt.nolm` the costs of the
graph without the language model, and `lmwt.lmonly` those of the language model. A cost is a negated
natural logarithm.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

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
from ptblm.files import os_errors
from ptblm.paths import expand_path

_ROW = re.compile(r"(\S+)-([1-9][0-9]{0,8})(?:[ \t](.*))?", re.DOTALL)
_COSTS = ("acwt", "lmwt.nolm", "lmwt.lmonly")


def _read(paths: Sequence[str], options: ReadOptions) -> Iterator[Utterance]:
    rows = (row for path in paths for row in read_rows(path) if row.text.strip())
    hypotheses: Iterable[Hypothesis] = map(_parse, rows)
    if options.costs is not None:
        hypotheses = _with_costs(hypotheses, options.costs)
    return grouped(hypotheses)


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


def _with_costs(hypotheses: Iterable[Hypothesis], path: str) -> Iterator[Hypothesis]:
    """Adds the scores in the files of a directory, whose rows have the order of the list."""
    with os_errors(DataError, where=path):
        found = [name for name in _COSTS if (expand_path(path) / name).exists()]
    if "acwt" not in found:
        raise DataError(
            "the directory does not contain the file acwt",
            where=path,
            hint="pass the directory in which Kaldi's recipe has written acwt, lmwt.nolm and "
            "lmwt.lmonly",
        )
    columns = {name: read_rows(str(expand_path(path) / name)) for name in found}
    for hypothesis in hypotheses:
        costs = {
            name: _cost(next(rows, None), hypothesis, expand_path(path) / name)
            for name, rows in columns.items()
        }
        yield replace(
            hypothesis,
            acoustic=-costs["acwt"],
            graph=-costs.get("lmwt.nolm", 0.0),
            language=-costs.get("lmwt.lmonly", 0.0),
        )
    for rows in columns.values():
        for row in rows:
            raise row.error("the file contains costs of more hypotheses than the list")


def _cost(row: Row | None, hypothesis: Hypothesis, path: Path) -> float:
    if row is None:
        raise DataError(f"{path} has no cost of this hypothesis", where=hypothesis.where)
    fields = row.text.split()
    if len(fields) != 2:
        raise row.error("expected the id of a hypothesis and its cost")
    if fields[0] != hypothesis.id:
        raise row.error(
            f"the cost of '{fields[0]:.60}', but the hypothesis at {hypothesis.where} is "
            f"'{hypothesis.id:.60}'"
        )
    cost = number_in(fields[1], row, "cost")
    if math.isinf(cost):
        raise row.error("the cost is not finite")
    return cost


FORMAT = Format("kaldi", math.e, "scores", 12.0, read=_read, score="none")
