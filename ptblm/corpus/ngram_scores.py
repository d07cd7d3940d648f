r"""Reads word scores of another language model: SRILM `ngram -ppl -debug 2`, KenLM `query`.

A line of SRILM: `\tp( word | context ...) \t= [2gram] 0.0019 [ -2.72 ]`, with `[ -inf ]` for the
probability 0. A line of KenLM is a sentence: `word=id length -2.72\t...`. Both are logarithms to
base 10, and both end a sentence with `</s>`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.nbest.hypothesis import number_in
from ptblm.corpus.nbest.rows import Row, read_rows
from ptblm.errors import DataError

_END = "</s>"
# Spellings of a word that the other model does not know.
UNKNOWN = ("<unk>", "<UNK>", "[UNK]", "<OOV>")
_KENLM = re.compile(r"(?P<word>\S+)=[0-9]+ [0-9]+ (?P<score>\S+)")


@dataclass(frozen=True)
class OtherScores:
    """Scores of the words of a sentence.

    Attributes:
        words: the words without the end of the sentence.
        nll: -log p in nats of each word and of the end, [len(words) + 1].
        row: the last row of the sentence, for messages.
    """

    words: list[str]
    nll: NDArray[np.float64]
    row: Row


def read_other_scores(path: str) -> Iterator[OtherScores]:
    """Yields the sentences of a file of word scores.

    Args:
        path: the file, or "-" for standard input.

    Raises:
        DataError: if the file cannot be read, or is in neither format.
    """
    words: list[str] = []
    scores: list[float] = []
    row = None
    for row in read_rows(path):
        for word, score in _scored_words(row):
            scores.append(number_in(score, row, "score"))
            if word != _END:
                words.append(word)
                continue
            yield OtherScores(words, -np.log(10) * np.array(scores), row)
            words, scores = [], []
    if scores and row is not None:
        raise row.error(
            f"the last sentence does not end with {_END}",
            hint="score complete sentences, without an option such as -no-eos",
        )


def _scored_words(row: Row) -> Iterator[tuple[str, str]]:
    """Yields the words of a row and their scores; none for a row that contains something else."""
    if row.text.lstrip().startswith("p( "):
        head, _, tail = row.text.rpartition(" [ ")
        before, score = head.split(), tail.split()
        if before[2:3] != ["|"] or "=" not in before or score[1:2] != ["]"]:
            raise row.error("the row does not have the form of `ngram -ppl -debug 2`")
        yield before[1], score[0]
    elif "\t" in row.text:
        for match in filter(None, map(_KENLM.fullmatch, row.text.split("\t"))):
            yield match["word"], match["score"]


def next_scores(others: Iterator[OtherScores], words: list[str], where: str) -> OtherScores:
    """Returns the next sentence, which has to consist of these words.

    A word that the other model does not know may be spelled `<unk>`.

    Args:
        others: the sentences.
        words: the expected words.
        where: file and line of the expected words.

    Raises:
        DataError: if there is no other sentence, or it consists of other words.
    """
    other = next(others, None)
    if other is None:
        raise DataError(
            "the file of the other model has no scores for this sentence",
            where=where,
            hint="score all sentences in order, one per line, with `ngram -ppl TEXT -debug 2` or "
            "`query -v word -v sentence MODEL`",
        )
    differing = [
        (theirs, ours)
        for theirs, ours in zip(other.words, words, strict=False)
        if theirs != ours and theirs not in UNKNOWN
    ]
    if differing or len(other.words) != len(words):
        theirs, ours = differing[0] if differing else (" ".join(other.words), " ".join(words))
        raise other.row.error(
            f"the scores are those of '{theirs:.60}', but the sentence at {where} contains "
            f"'{ours:.60}'",
            hint="score the sentences in their order, one per line",
        )
    return other
