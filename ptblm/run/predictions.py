"""Writes the judgment of each pair to a file: a TSV, or the JSON of the BabyLM evaluation."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from ptblm.errors import UsageError
from ptblm.evaluation.minimal_pairs.judgments import Judgment
from ptblm.files import check_output, os_errors, write_text
from ptblm.json_files import write_json
from ptblm.terminal import escape

_HEADER = ("id", "field", "uid", "good", "bad", "verdict")
_NO_VALUE = "NA"


def check_predictions_path(path: Path, inputs: Iterable[Path], *, has_suites: bool) -> None:
    """Checks, before anything is computed, that predictions can be written.

    Args:
        path: the file.
        inputs: the files that are read, which must not be replaced.
        has_suites: whether items of suites are judged, which have no good and bad sentence.

    Raises:
        UsageError: if they cannot.
    """
    if path.suffix == ".json" and has_suites:
        raise UsageError(
            "--predictions: BabyLM's JSON contains sentences, and a suite of SyntaxGym has none "
            "that is predicted",
            hint="use a name that ends with .tsv",
        )
    with os_errors(UsageError, "--predictions: cannot be written", where=path):
        check_output(path, inputs)


def write_predictions(path: Path, judgments: Sequence[Judgment], *, strict: bool = False) -> None:
    """Writes the judgments to a file: BabyLM's JSON if its name ends with .json, or else a TSV.

    The identifier of a pair is its paradigm and its position in it, as in `adjunct_island_0`. The
    TSV contains the scores of both sentences; higher is more probable. In the JSON, the predicted
    sentence of ties is in turn the good and the bad one, so that they count half; if `strict`, it
    is the bad one.

    Raises:
        UsageError: if the file cannot be written.
    """
    with os_errors(UsageError, "--predictions: cannot be written", where=path):
        if path.suffix == ".json":
            write_json(path, _babylm(judgments, strict=strict))
        else:
            write_text(
                path, "".join("\t".join(map(escape, row)) + "\n" for row in _rows(judgments))
            )


def _identified(judgments: Sequence[Judgment]) -> Iterator[tuple[str, Judgment]]:
    """Yields each judgment with the identifier of its pair."""
    counts: Counter[str] = Counter()
    for each in judgments:
        yield f"{each.paradigm}_{counts[each.paradigm]}", each
        counts[each.paradigm] += 1


def _rows(judgments: Sequence[Judgment]) -> Iterator[Sequence[str]]:
    yield _HEADER
    for name, each in _identified(judgments):
        field = each.groups.get("field", _NO_VALUE)
        scores = (
            (_NO_VALUE, _NO_VALUE) if each.scores is None else map("{:.6f}".format, each.scores)
        )
        yield (name, field, each.paradigm, *scores, each.verdict)


def _babylm(judgments: Sequence[Judgment], *, strict: bool) -> dict[str, Any]:
    paradigms: dict[str, dict[str, list[dict[str, str]]]] = {}
    of_ties = cycle([1] if strict else [0, 1])
    for name, each in _identified(judgments):
        if each.sentences is None:
            continue
        index = {"right": 0, "wrong": 1}.get(each.verdict)
        chosen = each.sentences[next(of_ties) if index is None else index]
        predictions = paradigms.setdefault(each.paradigm, {"predictions": []})["predictions"]
        predictions.append({"id": name, "pred": chosen})
    return {"blimp": paradigms}
