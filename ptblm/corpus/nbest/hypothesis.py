"""Hypotheses of an n-best list, in the form that all formats share."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ptblm.corpus.nbest.rows import Row
from ptblm.errors import DataError

Output = Literal["scores", "word-scores", "best", "trn", "nbest"]

# The hypotheses of an utterance are kept in memory.
_MAX_HYPOTHESES = 100_000


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of an utterance.

    A format that stores a score stores it between `before` and `after`, so that a changed score
    leaves all other bytes as they are.

    Attributes:
        utterance: id of the utterance.
        number: number of the hypothesis in the list of the utterance, from 1. `grouped` replaces 0
            by the place in the list.
        text: the words in the spelling of the list.
        length: what the word penalty multiplies: the number of words or characters.
        acoustic: the score of the list without `language` and `graph`, in the base of the list.
        language: the score of the language model of the recognizer; 0 if the list has none.
        before: bytes of the list before the score that rescoring replaces.
        score: this score as written in the list.
        after: bytes after the score.
        where: file and line.
        graph: the score of transitions and pronunciations, which has the scale of `language`.
    """

    utterance: str
    number: int
    text: str
    length: int
    acoustic: float
    language: float
    before: str
    score: str
    after: str
    where: str
    graph: float = 0.0

    @property
    def id(self) -> str:
        """The id of the hypothesis, such as "utt-1"."""
        return f"{self.utterance}-{self.number}"


Utterance = list[Hypothesis]


@dataclass(frozen=True)
class ReadOptions:
    """What some formats need to read a list.

    Attributes:
        beam_size: hypotheses of each utterance, in NeMo's lists, which have no ids.
        costs: a directory with the scores of Kaldi's lists.
    """

    beam_size: int = 1
    costs: str | None = None


@dataclass(frozen=True)
class Format:
    """A format of n-best lists.

    Attributes:
        name: value of the option `--format`.
        base: base of the logarithms, unless the user selects another one.
        default_output: what `ptblm rescore` prints.
        lm_scale: default factor of the language model score.
        read: yields the utterances of files.
        score: which score a rescored list contains in place of the old one.
    """

    name: str
    base: float
    default_output: Output
    lm_scale: float
    read: Callable[[Sequence[str], ReadOptions], Iterator[Utterance]]
    score: Literal["none", "language", "total", "both"]


def number_in(text: str, row: Row, what: str, hint: str | None = None) -> float:
    """Returns the value of a score.

    Args:
        text: the number; `-inf` is the logarithm of the probability 0.
        row: the row that contains it.
        what: name of the score in messages.
        hint: suggested fix.

    Raises:
        DataError: if it is not a number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value) or value == math.inf or "_" in text:
        raise row.error(f"the {what} '{text:.60}' is not a number", hint)
    return value


def grouped(hypotheses: Iterable[Hypothesis]) -> Iterator[Utterance]:
    """Yields the hypotheses of each utterance, which follow one another in the list.

    Raises:
        DataError: if the hypotheses of an utterance are in several places or too many, or two have
            the same number.
    """
    seen: set[int] = set()
    group: Utterance = []
    numbers: set[int] = set()
    for hypothesis in hypotheses:
        if group and group[0].utterance != hypothesis.utterance:
            yield group
            group, numbers = [], set()
        if not group:
            key = hash(hypothesis.utterance)  # the ids of a large list would take more memory
            if key in seen:
                raise DataError(
                    f"utterance '{hypothesis.utterance:.60}' occurs again after another one",
                    where=hypothesis.where,
                    hint="sort the list, so that the hypotheses of an utterance are together",
                )
            seen.add(key)
        if len(group) == _MAX_HYPOTHESES:
            raise DataError(
                f"utterance '{hypothesis.utterance:.60}' has more than {_MAX_HYPOTHESES:,} "
                "hypotheses",
                where=hypothesis.where,
            )
        numbered = replace(hypothesis, number=hypothesis.number or len(group) + 1)
        if numbered.number in numbers:
            raise DataError(f"hypothesis '{numbered.id:.60}' occurs twice", where=numbered.where)
        numbers.add(numbered.number)
        group.append(numbered)
    if group:
        yield group
