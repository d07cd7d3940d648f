"""Reads reference transcripts, to which the hypotheses of an n-best list are compared.

- `utt word word ...`, as in Kaldi's and ESPnet's `text`.
- `word word ... (utt)`, the format trn of sclite.
- JSON Lines with `text` and, unless the order gives it, `utterance`: NeMo's manifests.
"""

from collections.abc import Collection

from ptblm.corpus.lines import text_name
from ptblm.corpus.nbest.rows import Row, read_rows
from ptblm.errors import DataError
from ptblm.json_files import JsonError, parse_json


def read_references(path: str, utterances: Collection[str]) -> dict[str, list[str]]:
    """Returns the words of each utterance.

    Args:
        path: the file, or "-" for standard input.
        utterances: ids of the utterances, by which the format of a row is recognized.

    Raises:
        DataError: if the file cannot be read, an utterance occurs twice, or one is missing.
    """
    references: dict[str, list[str]] = {}
    rows = (row for row in read_rows(path) if row.text.strip())
    for number, row in enumerate(rows, start=1):
        utterance, words = _parse(row, str(number), utterances)
        if utterance in references:
            raise row.error(f"utterance '{utterance:.60}' occurs twice")
        references[utterance] = words
    missing = [utterance for utterance in utterances if utterance not in references]
    if missing:
        raise DataError(
            f"no reference for {len(missing):,} of {len(utterances):,} utterances, the first is "
            f"'{missing[0]:.60}'",
            where=text_name(path),
            hint="each row is `utterance words...`, `words... (utterance)`, or a JSON object with "
            "'text'",
        )
    return references


def _parse(row: Row, number: str, utterances: Collection[str]) -> tuple[str, list[str]]:
    if row.text.lstrip().startswith("{"):
        try:
            content = parse_json(row.text)
        except (JsonError, UnicodeError) as error:
            raise row.error(f"not a JSON object: {error}") from None
        text, utterance = content.get("text"), content.get("utterance", number)
        if not isinstance(text, str) or not isinstance(utterance, str):
            raise row.error("the object has no string 'text'")
        return utterance, text.split()
    first, *rest = row.text.split()
    words, bracket, last = row.text.rstrip().rpartition("(")
    if bracket and last.endswith(")") and first not in utterances:
        return last[:-1], words.split()
    return first, rest
