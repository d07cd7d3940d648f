"""Scores the words of a table, and appends the scores to its rows.

The table has a header and one word per row. The words of a group, such as the stories of a corpus
of reading times, are one text in the order of their rows.

Shapes: W words of a group.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ptblm.corpus.encodings import MARK_SIZE, encoding_by_mark, with_byte_order
from ptblm.corpus.lines import Line, make_line, text_name, text_pieces
from ptblm.corpus.word_splitting import word_splitter
from ptblm.errors import DataError, UsageError
from ptblm.reporting.score_formats.columns import Request, TokenColumns, numbers, word_columns
from ptblm.run.load_model import LoadedModel
from ptblm.run.score import Scoring, UnknownTokens, score
from ptblm.run.text_config import text_config
from ptblm.terminal import counted


@dataclass(frozen=True)
class TableOptions:
    """Where the words are, and what is appended.

    Attributes:
        word: name of the column of the words.
        by: name of the column whose values divide the rows into groups; None for one group.
        previous: number of words before each word whose values are appended too.
    """

    word: str = "word"
    by: str | None = None
    previous: int = 0


@dataclass(frozen=True)
class _Row:
    """A row of a table.

    Attributes:
        line: number of its first line in the file, from 1.
        text: the row as in the file, without the newline.
        word: its word.
    """

    line: int
    text: str
    word: str


@dataclass(frozen=True)
class _Table:
    """A table of words.

    Attributes:
        name: name of the table in messages.
        header: the header as in the file, without the newline.
        separator: the separator of the columns.
        rows: the rows.
        groups: the indices of the rows of each group, in order of appearance.
    """

    name: str
    header: str
    separator: str
    rows: list[_Row]
    groups: list[list[int]]


def score_table(
    loaded: LoadedModel,
    text: str,
    options: TableOptions,
    request: Request,
    scoring: Scoring,
    overrides: Sequence[str] = (),
) -> Iterator[str]:
    """Yields the rows of a table with the scores of their words appended, in the same order.

    The values of the words before are those of the same group, and NA before its first word.

    Args:
        loaded: the model.
        text: path of the table, or "-" for standard input. The columns are separated by tabs, or
            by commas or semicolons if the header contains no tab.
        options: the columns of the table.
        request: the columns to append.
        scoring: how the words are scored. Each group is a sentence.
        overrides: strings such as "data.encoding=latin-1", for how the text is read.

    Raises:
        ConfigError: if an override is not valid.
        DataError: if the table cannot be read, or a row does not contain exactly one word.
        UsageError: if the table lacks a column, or already has a column of the same name.
    """
    encoding = text_config(loaded.config.data, overrides).encoding
    content = b"".join(text_pieces(text))
    names = ["surprisal", *request.columns]
    names += [f"{name}_previous{k}" for k in range(1, options.previous + 1) for name in names]
    table = _read_table(content, text_name(text), encoding, options, names)
    unknown = UnknownTokens(loaded.tokenizer, scoring.splitting, table.name)
    lines = (_line_of_group(table, group, loaded, scoring) for group in table.groups)
    values: list[list[str]] = [[] for _ in table.rows]
    token_columns = TokenColumns(request)
    results = score(loaded, map(unknown.count, lines), scoring)
    for group, scored in zip(table.groups, results, strict=True):
        _, columns = word_columns(scored, token_columns.of(scored), request.tokenizer)
        texts = zip(*map(numbers, columns.values()), strict=True)
        # Without the row of the token that ends a line, if there is one.
        for index, of_word in zip(group, texts, strict=False):
            values[index] = list(of_word)
    unknown.warn()
    yield from _joined(table, names, values, options.previous)


def _line_of_group(table: _Table, group: list[int], loaded: LoadedModel, scoring: Scoring) -> Line:
    text = " ".join(table.rows[index].word for index in group)
    split = word_splitter(scoring.splitting, loaded.tokenizer)

    def line(number: int, text: str) -> Line:
        spelled, tokens = split(text)
        return make_line(number, tokens, loaded.tokenizer, text, table.name, spelled)

    try:
        return line(table.rows[group[0]].line, text)
    except DataError:  # a word is unknown: name its row
        for index in group:
            line(table.rows[index].line, table.rows[index].word)
        raise


def _joined(
    table: _Table, names: list[str], values: list[list[str]], previous: int
) -> Iterator[str]:
    """Yields the header and the rows with their values and those of the words before."""
    missing = ["NA"] * len(values[0]) if values else []
    before = {
        index: [group[at - k] if at >= k else None for k in range(1, previous + 1)]
        for group in table.groups
        for at, index in enumerate(group)
    }
    yield _with_columns(table.header, names, table.separator)
    for index, row in enumerate(table.rows):
        appended = list(values[index])
        for earlier in before[index]:
            appended += missing if earlier is None else values[earlier]
        yield _with_columns(row.text, appended, table.separator)


def _with_columns(row: str, values: list[str], separator: str) -> str:
    """Appends columns to a row, before its carriage return."""
    end = "\r" if row.endswith("\r") else ""
    return separator.join([row.removesuffix("\r"), *values]) + end


def _read_table(
    content: bytes, name: str, encoding: str | None, options: TableOptions, new: list[str]
) -> _Table:
    encoding = encoding or encoding_by_mark(content[:MARK_SIZE]) or "utf-8"
    encoding = with_byte_order(encoding, content)
    try:
        text = content.decode(encoding).removeprefix("\ufeff")  # the byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = "pass --set data.encoding=latin-1 or another encoding"
        raise DataError(f"not {encoding} text", where=f"{name}:{line}", hint=hint) from None
    lines = text.removesuffix("\n").split("\n")
    header = lines[0]
    if not header.strip():
        raise DataError("the table has no header", where=f"{name}:1")
    separator = next((each for each in "\t,;" if each in header), "\t")
    # Words of a text that are in quotation marks are not quoted cells, unless the header is quoted.
    is_quoted = separator != "\t" or '"' in header
    columns = _cells(header, separator, name, 1, is_quoted=is_quoted)
    at_word = _index(columns, options.word, "--word", name)
    at_group = None if options.by is None else _index(columns, options.by, "--by", name)
    for column in new:
        if column in columns:
            hint = "rename the column, or remove it"
            raise UsageError(f"the table already has a column '{column}'", where=name, hint=hint)
    rows: list[_Row] = []
    groups: dict[str, list[int]] = {}
    for number, row in _rows(lines, is_quoted=is_quoted):
        cells = _cells(row, separator, name, number, is_quoted=is_quoted)
        if len(cells) != len(columns):
            raise DataError(
                f"the row has {counted(len(cells), 'column')}, and the header has {len(columns)}",
                where=f"{name}:{number}",
                hint="the header must name each column",
            )
        word = cells[at_word].strip()
        if len(word.split()) != 1:
            what = f"'{word[:60]}' is more than one word" if word else "the word is empty"
            raise DataError(
                f"column '{options.word}': {what}",
                where=f"{name}:{number}",
                hint="each row must contain exactly one word",
            )
        groups.setdefault("" if at_group is None else cells[at_group], []).append(len(rows))
        rows.append(_Row(number, row, word))
    return _Table(name, header, separator, rows, list(groups.values()))


def _rows(lines: list[str], *, is_quoted: bool) -> Iterator[tuple[int, str]]:
    """Yields each row after the header with the number of its first line.

    A quoted cell can contain newlines.
    """
    start, parts, quotes = 2, [], 0
    for number, line in enumerate(lines[1:], start=2):
        parts.append(line)
        quotes += line.count('"')
        if not is_quoted or quotes % 2 == 0:
            yield start, "\n".join(parts)
            start, parts, quotes = number + 1, [], 0
    if parts:
        yield start, "\n".join(parts)


def _cells(row: str, separator: str, name: str, number: int, *, is_quoted: bool) -> list[str]:
    row = row.removesuffix("\r")
    if not is_quoted or not row:
        return row.split(separator)
    try:
        (cells,) = csv.reader(io.StringIO(row, newline=""), delimiter=separator, strict=True)
    except (csv.Error, ValueError) as error:
        what = f"the row cannot be divided into columns: {error}"
        raise DataError(what, where=f"{name}:{number}") from None
    return cells


def _index(columns: list[str], column: str, option: str, name: str) -> int:
    if columns.count(column) != 1:
        found = "several columns" if column in columns else "no column"
        raise UsageError(
            f"{option} {column}: the table has {found} '{column}'",
            where=name,
            hint=f"its columns are {', '.join(columns[:20])}",
        )
    return columns.index(column)
