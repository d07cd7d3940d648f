"""NeMo's beams: rows `text<TAB>score` without ids, and equally many rows for each utterance.

The score is the natural logarithm of the probability of the recognizer. NeMo's rescoring adds
alpha times the score of the language model and beta times the number of characters. The ids of the
utterances are their numbers, from 1, as they have the order of the manifest.
"""

import math
from collections.abc import Iterator, Sequence

from ptblm.corpus.nbest.hypothesis import Format, Hypothesis, ReadOptions, Utterance, number_in
from ptblm.corpus.nbest.rows import Row, read_rows


def _read(paths: Sequence[str], options: ReadOptions) -> Iterator[Utterance]:
    utterance, count, size = Utterance(), 0, options.beam_size
    for path in paths:
        row = None
        for row in read_rows(path):
            utterance.append(_parse(row, str(count + 1), len(utterance) + 1))
            if len(utterance) == size:
                yield utterance
                utterance, count = [], count + 1
        if utterance and row is not None:
            rows = int(row.where.rpartition(":")[2])
            raise row.error(
                f"the file has {rows:,} rows, which is not a multiple of the beam size {size:,}",
                hint="pass the beam size of the recognizer as --beam-size",
            )


def _parse(row: Row, utterance: str, number: int) -> Hypothesis:
    content = row.text.rstrip("\r")
    text, tab, score = content.rpartition("\t")
    if not tab:
        raise row.error("the row has no tab", hint="expected the text, a tab and the score")
    return Hypothesis(
        utterance,
        number,
        text,
        len(text),
        number_in(score, row, "score"),
        0.0,
        text + tab,
        score,
        row.text[len(content) :],
        row.where,
    )


FORMAT = Format("nemo", math.e, "nbest", 1.0, read=_read, score="total")
