"""A comparison of runs as a table for terminals, Markdown, LaTeX, CSV or JSON."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ptblm.evaluation.bootstrap import RatioInterval
from ptblm.json_files import finite
from ptblm.reporting.compare import Cell, Comparison, Spread
from ptblm.reporting.run_labels import short_names
from ptblm.terminal import escape

_GAP = "  "
_MAX_CELL = 40
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row, these would be arguments of the line break before it.
    "[": "{[}",
    "*": "{*}",
}


def table_lines(comparison: Comparison, width: int) -> list[str]:
    """Returns a table for a terminal.

    If it is too wide, each run becomes a column; if that is too wide too, a list of its cells.

    Args:
        comparison: the comparison.
        width: columns of the terminal.
    """
    columns = [name for name in comparison.columns if name != "ratio"]  # sentences show it
    comparison = comparison._replace(columns=columns)
    rows = [[_shortened(escape(cell)) for cell in row] for row in _texts(comparison)]
    rows = [short_names(comparison.columns), *rows]
    turned = [list(column) for column in zip(*rows, strict=True)]
    for lines in (
        _aligned(rows, _numeric_columns(comparison)),
        _aligned(turned, [False] + [True] * (len(rows) - 1)),
    ):
        if max(map(len, lines)) <= width:
            return lines
    blocks = (_aligned([[row[0], row[number]] for row in turned]) for number in range(1, len(rows)))
    return [line for block in blocks for line in ["", *block]][1:]


def _aligned(rows: Sequence[Sequence[str]], to_the_right: Sequence[bool] = ()) -> list[str]:
    """Returns the lines of a table whose columns are aligned to the left or to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = to_the_right or [False] * len(widths)
    return [
        _GAP.join(
            cell.rjust(size) if is_right else cell.ljust(size)
            for cell, size, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def table_cells(comparison: Comparison) -> list[list[str]]:
    """Returns the names of the columns and the rows, as texts for people."""
    return [short_names(comparison.columns), *_texts(comparison)]


def markdown_lines(comparison: Comparison) -> list[str]:
    """Returns a table in Markdown."""
    numeric = _numeric_columns(comparison)
    rule = ["---:" if is_number else "---" for is_number in numeric]
    cells = [short_names(comparison.columns), rule, *_texts(comparison)]
    return [f"| {' | '.join(map(_markdown, row))} |" for row in cells]


def latex_lines(comparison: Comparison) -> list[str]:
    """Returns a LaTeX table in the style of the package booktabs."""
    alignment = "".join("r" if number else "l" for number in _numeric_columns(comparison))
    head, *rows = (
        " & ".join(map(_latex, row)) + r" \\"
        for row in [short_names(comparison.columns), *_texts(comparison)]
    )
    return [
        rf"\begin{{tabular}}{{{alignment}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
        r"\end{tabular}",
    ]


def csv_lines(comparison: Comparison) -> list[str]:
    """Returns the lines of a CSV table (RFC 4180). Means and intervals are several columns."""
    rows = [_flat(comparison, row) for row in comparison.rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = ([_csv_value(row.get(name)) for name in columns] for row in rows)
    return [_csv_row(columns), *map(_csv_row, cells)]


def curves_csv(points: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Yields the rows of a long table of curves; see `ptblm.reporting.compare.curves`."""
    yield "run,step,epoch,name,value"
    for point in points:
        yield _csv_row([_csv_value(value) for value in point])


def json_document(comparison: Comparison, split: str | None = None) -> dict[str, Any]:
    """Returns the table as plain data, one object for each row.

    Args:
        comparison: the table.
        split: the split of the ratios, which the document names; None without ratios.
    """
    rows = [finite(_flat(comparison, row)) for row in comparison.rows]
    return {"rows": rows} if split is None else {"split": split, "rows": rows}


def ratio_sentences(comparison: Comparison, other: str, split: str) -> list[str]:
    """Returns a sentence for each run that compares its perplexity with that of another run."""
    sentences = []
    for row in comparison.rows:
        match row["ratio"]:
            case RatioInterval(ratio, low, high, count):
                change = f"{abs(ratio - 1):.1%} {'lower' if ratio < 1 else 'higher'} than"
                sentences.append(
                    f"{split} perplexity of {row['run']}: "
                    f"{'equal to' if ratio == 1 else change} that of {other} "
                    f"(95% interval {low - 1:+.1%} to {high - 1:+.1%}, {count:,} sentences)"
                )
    return sentences


def _texts(comparison: Comparison) -> list[list[str]]:
    return [[_text(name, row[name]) for name in comparison.columns] for row in comparison.rows]


def _text(name: str, cell: Cell) -> str:
    """Returns a cell as text for people."""
    match cell:
        case None:
            return "-"
        case Spread(mean, sd, low, high):
            if sd is None or name not in _WITH_SPREAD:
                return _number(name, mean)
            shown = [_number(name, value) for value in (mean, sd, low, high)]
            return "{} ± {} ({} to {})".format(*shown)
        case RatioInterval(ratio, low, high, _):
            return f"{ratio:.4f} ({low:.4f} to {high:.4f})"
        case str():
            return cell
        case bool() | list() | dict():
            return json.dumps(cell)
        case _ if name in _FORMATS:
            return _number(name, cell)
        case _:
            return str(cell)


_WITH_SPREAD = ("valid", "test")
_FORMATS = {
    "n": ",d",
    "parameters": ",d",
    "valid": ".2f",
    "test": ".2f",
    "tokens/s": ",.0f",
    "hours": ".3g",
}


def _number(name: str, value: Any) -> str:
    return format(value, _FORMATS[name])


def _numeric_columns(comparison: Comparison) -> list[bool]:
    """Returns whether each column contains numbers, which are aligned to the right."""
    return [
        all(
            isinstance(row[name], int | float | Spread | RatioInterval | None)
            and not isinstance(row[name], bool)
            for row in comparison.rows
        )
        for name in comparison.columns
    ]


def _flat(comparison: Comparison, row: dict[str, Cell]) -> dict[str, Any]:
    """Returns the cells of a row by name, in which a mean or an interval is several cells."""
    cells: dict[str, Any] = {}
    for name in comparison.columns:
        cell = row[name]
        if isinstance(cell, Spread):
            cells |= {f"{name}_{part}": value for part, value in cell._asdict().items()}
        elif isinstance(cell, RatioInterval):
            parts = cell._asdict()
            cells[name] = parts.pop("ratio")
            cells |= {f"{name}_{part}": value for part, value in parts.items()}
        else:
            cells[name] = cell
    return cells


def _csv_row(cells: Sequence[Cell]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _csv_value(cell: Any) -> Any:
    """Returns a cell as CSV has it: names on one line, and lists as JSON."""
    if isinstance(cell, str):
        return escape(cell)
    return json.dumps(cell) if isinstance(cell, bool | list | dict) else cell


def _markdown(text: str) -> str:
    return re.sub(r"([\\|`*_~$&<>\[\]])", r"\\\1", escape(text))


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in escape(text))
    return escaped.replace(" ± ", r" $\pm$ ")


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CELL else f"{text[: _MAX_CELL - 1]}…"
