"""The output formats of `ptblm score`, one family per file."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ptblm.evaluation.line_scores import ScoredLine
from ptblm.reporting.score_formats.columns import COLUMNS, Request
from ptblm.reporting.score_formats.json_lines import json_lines
from ptblm.reporting.score_formats.other_tools import lm_zoo, neural_complexity
from ptblm.reporting.score_formats.speech import kaldi, kenlm, srilm
from ptblm.reporting.score_formats.tables import sentence_table, token_table, word_table


@dataclass(frozen=True)
class Format:
    """An output format.

    Attributes:
        write: yields the output lines of each scored line, after those of the header.
        columns: the columns that a user can choose.
        fixed: the columns that the format always contains.
        base: base of the logarithms, unless the user chooses another.
        top: whether the format can contain predictions.
        comments: whether its readers skip lines that start with `#`.
        complete: whether its readers need a probability of every token.
        words_only: whether white space separates its tokens, so that they have to be words.
    """

    write: Callable[[Iterable[ScoredLine], Request], Iterator[list[str]]]
    columns: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    base: float = 2.0
    top: bool = False
    comments: bool = False
    complete: bool = False
    words_only: bool = False


FORMATS = {
    "tsv": Format(token_table, COLUMNS, top=True, comments=True),
    "words": Format(word_table, COLUMNS, comments=True),
    "sentences": Format(sentence_table, ("surprisal", "rank"), comments=True),
    "jsonl": Format(json_lines, COLUMNS, top=True),
    "neural-complexity": Format(
        neural_complexity, fixed=("entropy", "entropy_reduction"), top=True, words_only=True
    ),
    "lm-zoo": Format(lm_zoo),
    "srilm": Format(srilm, base=10.0, complete=True, words_only=True),
    "kenlm": Format(kenlm, base=10.0, complete=True, words_only=True),
    "kaldi": Format(kaldi, base=math.e, complete=True),
}
