"""Reads minimal pairs from a table with a header: TSV, as of Marvin & Linzen (2018), or CSV.

TSV has no quotes; CSV is quoted as by spreadsheets. A header with a tab is that of a TSV.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ptblm.errors import DataError
from ptblm.evaluation.minimal_pairs.pair import Pair, Place, checked_text

# Names of the columns with the grammatical and the ungrammatical sentence.
_SENTENCES = [("grammatical", "ungrammatical"), ("sentence_good", "sentence_bad"), ("good", "bad")]
# Names of columns with the paradigm.
_PARADIGMS = ["test case", "UID", "paradigm"]
# Marvin & Linzen's test cases are a construction and its variant, such as
# "simple_agrmt--sing_MS_MV"; the paradigm is the construction.
_VARIANT = "--"


@dataclass(frozen=True)
class Columns:
    """Names of columns that the user chose; None for a usual name.

    Attributes:
        good: column of the grammatical sentence.
        bad: column of the ungrammatical sentence.
        paradigm: column of the paradigm.
    """

    good: str | None = None
    bad: str | None = None
    paradigm: str | None = None


def read_table(lines: Sequence[str], file: str, stem: str, columns: Columns) -> list[Pair]:
    """Returns the pairs of a table.

    Args:
        lines: the lines of the file, at least one.
        file: name of the file in messages.
        stem: name of the paradigm of a table without a column for it.
        columns: the columns.

    Raises:
        DataError: if a column is missing, or a row is not valid.
    """
    rows = _rows(lines, file)
    _, header = next(rows)
    good, bad = _sentence_columns(header, columns, file)
    paradigm = _paradigm_column(header, columns, file)
    pairs = []
    for number, row in rows:
        if not any(row):
            continue
        place = Place(file, number)
        if len(row) != len(header):
            raise DataError(
                f"the row has {len(row):,} columns, and the header has {len(header):,}",
                where=str(place),
            )
        name = stem
        if paradigm is not None:
            name = checked_text(row[paradigm], header[paradigm], place).partition(_VARIANT)[0]
        first, second = (checked_text(row[at], header[at], place) for at in (good, bad))
        pairs.append(Pair(place, name, first, second))
    return pairs


def _rows(lines: Sequence[str], file: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each row with the number of its last line."""
    reader = (
        csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if "\t" in lines[0]
        else csv.reader(lines, strict=True)
    )
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"not a table: {error}", where=f"{file}:{reader.line_num}") from None


def _sentence_columns(header: list[str], columns: Columns, file: str) -> tuple[int, int]:
    for good, bad in _SENTENCES:
        chosen = (columns.good or good, columns.bad or bad)
        if set(chosen) <= set(header):
            first, second = (_only(header, name, file) for name in chosen)
            if first == second:
                what = f"column {chosen[0]!r} is that of both sentences of a pair"
                raise DataError(what, where=f"{file}:1", hint="pass --good and --bad")
            return first, second
    wanted = [name for name in (columns.good, columns.bad) if name and name not in header]
    raise DataError(
        f"the table has no column {wanted[0]!r}"
        if wanted
        else "the table has no columns 'grammatical' and 'ungrammatical'",
        where=f"{file}:1",
        hint=f"pass --good and --bad with two of its columns: {', '.join(header)[:500]}",
    )


def _paradigm_column(header: list[str], columns: Columns, file: str) -> int | None:
    if columns.paradigm is not None:
        if columns.paradigm not in header:
            raise DataError(
                f"the table has no column {columns.paradigm!r}",
                where=f"{file}:1",
                hint=f"pass --by with one of its columns: {', '.join(header)[:500]}",
            )
        return _only(header, columns.paradigm, file)
    return next((_only(header, name, file) for name in _PARADIGMS if name in header), None)


def _only(header: list[str], name: str, file: str) -> int:
    """Returns the index of a column.

    Raises:
        DataError: if several columns have this name.
    """
    if header.count(name) > 1:
        what = f"the table has {header.count(name)} columns {name!r}"
        raise DataError(what, where=f"{file}:1", hint="rename one of them")
    return header.index(name)
