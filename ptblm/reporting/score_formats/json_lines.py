"""JSON Lines: one object per line of the text, with a list for each column."""

import math
from collections.abc import Iterable, Iterator

from ptblm.evaluation.line_scores import ScoredLine
from ptblm.json_files import strict_json
from ptblm.reporting.score_formats.cells import spelled_tokens
from ptblm.reporting.score_formats.columns import Column, Request, TokenColumns, predictions

_WHOLE = ("rank", "unknown", "length")


def json_lines(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the object of each line. A missing value is null."""
    columns = TokenColumns(request)
    for scored in lines:
        content: dict[str, object] = {
            "sentence_id": scored.line.number,
            "tokens": spelled_tokens(scored.line, request.tokenizer),
        }
        content |= {name: _values(name, each) for name, each in columns.of(scored).items()}
        if request.top:
            content["top"] = [
                [list(each) for each in row] for row in predictions(scored.scores, request)
            ]
        yield [strict_json(content).replace("\x7f", "\\u007f")]


def _values(name: str, column: Column) -> list[float | int | None]:
    values: list[float | int | None] = column.tolist()
    if name not in _WHOLE:
        return values
    return [None if value is None or math.isnan(value) else int(value) for value in values]
