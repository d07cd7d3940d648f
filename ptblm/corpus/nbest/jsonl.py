"""N-best lists as JSON Lines: one object per hypothesis, all hypotheses of an utterance together.

| name | value |
|---|---|
| `utterance` | id of the utterance |
| `text` | the words |
| `score` | score of the recognizer; 0 if it is missing |
| `language` | part of the total that is the recognizer's language model, not contained in `score` |

Other names are kept. Rescoring adds `lm_score` and `total` to each object.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ptblm.corpus.nbest.hypothesis import (
    Format,
    Hypothesis,
    ReadOptions,
    Utterance,
    grouped,
    number_in,
)
from ptblm.corpus.nbest.rows import Row, read_rows
from ptblm.json_files import JsonError, parse_json

ADDED = ("lm_score", "total")


def _read(paths: Sequence[str], _options: ReadOptions) -> Iterator[Utterance]:
    return grouped(_parse(row) for path in paths for row in read_rows(path) if row.text.strip())


def _parse(row: Row) -> Hypothesis:
    try:
        content = parse_json(row.text)
    except (JsonError, UnicodeError) as error:
        raise row.error(f"not a JSON object: {error}") from None
    for name in ("utterance", "text"):
        if not isinstance(content.get(name), str):
            raise row.error(f"the object has no string '{name}'")
    for name in ADDED:
        if name in content:
            raise row.error(
                f"the object already contains '{name}', which rescoring adds",
                hint="pass the list that was not rescored",
            )
    body = row.text.rstrip()
    utterance, text = content["utterance"], content["text"]
    if not utterance or utterance.split() != [utterance]:
        raise row.error("the id of the utterance is empty or contains a space")
    if "\n" in text:
        raise row.error("the text contains a newline")
    if not _is_unicode(utterance + text, row.text):
        raise row.error("the object contains half of a surrogate pair (\\ud800 to \\udfff)")
    return Hypothesis(
        utterance,
        0,
        text,
        len(text.split()),
        _number(content, "score", row),
        _number(content, "language", row),
        body[:-1],
        "",
        row.text[len(body) - 1 :],
        row.where,
    )


def _number(content: dict[str, Any], name: str, row: Row) -> float:
    value = content.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise row.error(f"'{name}' is not a number")
    return number_in(str(value), row, name)


def _is_unicode(text: str, row: str) -> bool:
    """Returns whether an escape for half of a character is absent from a text.

    Surrogates that the row itself contains are bytes that are not UTF-8.
    """
    return all(c in row for c in text if 0xD800 <= ord(c) < 0xE000)


FORMAT = Format("jsonl", math.e, "nbest", 1.0, read=_read, score="both")
