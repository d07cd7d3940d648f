"""ESPnet's n-best lists: a directory with `Kbest_recog/{text,score,token}` for each K from 1.

Each row is the id of an utterance and its value. K is the rank of the hypothesis. A list of fewer
hypotheses lacks rows in the last directories. The score is the total of the recognizer, a natural
logarithm, perhaps printed as `tensor(-1.23)`. The file `token` is optional.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

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
from ptblm.files import os_errors, replacing
from ptblm.paths import expand_path

_DIRECTORY = re.compile(r"([1-9][0-9]{0,4})best_recog")
_TENSOR = re.compile(r"tensor\(([^,()]*)(?:, *device=[^()]*)?\)")

# The id of an utterance, the rest of its row, and the row.
_Field = tuple[str, str, Row]


def _read(paths: Sequence[str], _options: ReadOptions) -> Iterator[Utterance]:
    return grouped(each for path in paths for each in _hypotheses(path))


def _hypotheses(path: str) -> Iterator[Hypothesis]:
    directory = expand_path(path)
    with os_errors(DataError, where=path):
        found = {int(m[1]) for p in directory.iterdir() if (m := _DIRECTORY.fullmatch(p.name))}
    if not found or found != set(range(1, max(found) + 1)):
        raise DataError(
            "the directory does not contain 1best_recog, 2best_recog, ... without a gap",
            where=path,
            hint="pass the directory in which ESPnet writes its n-best lists",
        )
    lists = [_ranked(directory / f"{number}best_recog", number) for number in sorted(found)]
    following = [next(each, None) for each in lists]
    while first := following[0]:
        for index, candidate in enumerate(following):
            if candidate is not None and candidate.utterance == first.utterance:
                yield candidate
                following[index] = next(lists[index], None)
    for rest in following:
        if rest is not None:
            raise DataError(
                f"utterance '{rest.utterance:.60}' is not in 1best_recog, or is there in another "
                "order",
                where=rest.where,
            )


def _ranked(directory: Path, number: int) -> Iterator[Hypothesis]:
    """Yields the hypotheses of a rank."""
    names = ["text", "score"]
    if (directory / "token").exists():
        names.append("token")
    columns = [_fields(directory / name) for name in names]
    while True:
        fields = [next(column, None) for column in columns]
        if all(each is None for each in fields):
            return
        yield _hypothesis(directory, number, names, fields)


def _hypothesis(
    directory: Path, number: int, names: list[str], fields: list[_Field | None]
) -> Hypothesis:
    last = next(each for each in fields if each is not None)
    for name, each in zip(names, fields, strict=True):
        if each is None:
            raise last[2].error(f"{directory / name} has no row for utterance '{last[0]:.60}'")
        if each[0] != last[0]:
            raise each[2].error(
                f"the row is about utterance '{each[0]:.60}', and that of {last[2].where} is about "
                f"'{last[0]:.60}'"
            )
    values = {name: each for name, each in zip(names, fields, strict=True) if each is not None}
    utterance, text, row = values["text"]
    score = values["score"][1].strip()
    tensor = _TENSOR.fullmatch(score)
    return Hypothesis(
        utterance,
        number,
        text.rstrip("\r"),
        len(text.split()),
        number_in(tensor[1] if tensor else score, values["score"][2], "score"),
        0.0,
        row.text,
        score,
        values["token"][2].text if "token" in values else "",
        row.where,
    )


def _fields(path: Path) -> Iterator[_Field]:
    for row in read_rows(str(path)):
        if row.text.strip():
            utterance, _, value = row.text.lstrip().partition(" ")
            yield utterance.rstrip("\r"), value, row


def write(directory: Path, utterances: Iterator[list[tuple[Hypothesis, str]]]) -> None:
    """Writes n-best lists as ESPnet does, with the best hypothesis in `1best_recog`.

    Args:
        directory: where the directories of the ranks are created.
        utterances: the hypotheses of each utterance from the best to the worst, with their scores.

    Raises:
        OSError: if a file cannot be written.
    """
    with ExitStack() as stack:
        files: dict[tuple[int, str], IO[bytes]] = {}
        for utterance in utterances:
            for rank, (hypothesis, score) in enumerate(utterance, start=1):
                rows = {
                    "text": hypothesis.before,
                    "score": f"{hypothesis.utterance} {score}",
                    "token": hypothesis.after,
                }
                for name, row in rows.items():
                    if not row:  # the list has no tokens
                        continue
                    if (rank, name) not in files:
                        path = directory / f"{rank}best_recog" / name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        files[rank, name] = stack.enter_context(replacing(path))
                    files[rank, name].write(f"{row}\n".encode("utf-8", "surrogateescape"))


FORMAT = Format("espnet", math.e, "best", 1.0, read=_read, score="total")
