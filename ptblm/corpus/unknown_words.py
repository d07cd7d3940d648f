"""Probabilities of single unknown words: a file of rows `word probability`.

Kaldi's recipes call this file `unk.probs`. The probability is that of the word if it is known that
the word is unknown to the language model.
"""

import math

from ptblm.corpus.lines import text_name
from ptblm.corpus.nbest.rows import read_rows
from ptblm.errors import DataError

# The probability of a word that the file does not contain, as in Kaldi.
DEFAULT = 1e-7
_MAX_WORDS = 10_000_000


def read_unknown_words(path: str) -> dict[str, float]:
    """Returns the natural logarithm of the probability of each word.

    Args:
        path: the file, or "-" for standard input.

    Raises:
        DataError: if the file cannot be read, or a row is not a word and a probability.
    """
    table: dict[str, float] = {}
    for row in read_rows(path):
        fields = row.text.split()
        if not fields:
            continue
        try:
            word, value = fields[0], float(fields[1])
        except (IndexError, ValueError):
            value = math.nan
        if len(fields) != 2 or not 0 < value <= 1:
            raise row.error("expected a word and its probability, above 0 and at most 1")
        table[word] = math.log(value)
        if len(table) > _MAX_WORDS:
            raise DataError(f"more than {_MAX_WORDS:,} words", where=text_name(path))
    return table
