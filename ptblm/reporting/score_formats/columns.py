"""Computes the columns of token and word tables from scored lines.

Shapes: N tokens of a line, with the token that ends it; W words; K predictions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.whole_words import whole_words
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.evaluation.token_scores import Measures, TokenScores

Column = NDArray[np.float64]

# The columns that a user can choose. All tables contain surprisal.
COLUMNS = ("surprisal", "entropy", "entropy_reduction", "rank", "unknown", "frequency", "length")


def measures(columns: tuple[str, ...], top: int, *, states: bool = False) -> Measures:
    """Returns what has to be computed for columns and predictions, and the states if wanted."""
    entropy = "entropy" in columns or "entropy_reduction" in columns
    return Measures(entropy=entropy, rank="rank" in columns, top=top, states=states)


@dataclass(frozen=True)
class Request:
    """What a table contains.

    Attributes:
        tokenizer: the tokenizer of the text.
        base: base of the logarithms of surprisal and entropy.
        columns: the chosen columns in order, without surprisal.
        top: K, the number of predictions per token.
        carried: whether a sequence continues in the next line, as in the modes stream and document.
        text: name of the text.
    """

    tokenizer: Tokenizer
    base: float = 2.0
    columns: tuple[str, ...] = ()
    top: int = 0
    carried: bool = False
    text: str = "-"


class TokenColumns:
    """Computes the columns of the tokens of consecutive lines.

    A missing value is NaN: of a token without context, the frequency of an unknown token, or the
    length of the token that ends a line.

    - entropy: of the distribution that predicts the token.
    - entropy_reduction: how much lower it is than that of the row before, at least 0; 0 in the
      first row of a sequence.
    - frequency: log2 of the number of occurrences in the training split.
    - length: characters.

    Args:
        request: the columns.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._entropy_before = math.nan
        self._line_before = 0
        counts = np.array(request.tokenizer.vocabulary.counts, dtype=np.float64)
        self._frequency = np.log2(np.where(counts > 0, counts, np.nan))  # [V]

    def of(self, scored: ScoredLine) -> dict[str, Column]:
        """Returns surprisal and the chosen columns of a line by name, each [N]."""
        return {name: self._column(name, scored) for name in ("surprisal", *self.request.columns)}

    def _column(self, name: str, scored: ScoredLine) -> Column:
        line, scores = scored.line, scored.scores
        column: Column
        match name:
            case "surprisal":
                column = scores.nll / math.log(self.request.base)
            case "entropy":
                column = computed(scores.entropy) / math.log(self.request.base)
            case "entropy_reduction":
                column = self._reduction(scored) / math.log(self.request.base)
            case "rank":
                column = np.where(np.isnan(scores.nll), np.nan, computed(scores.rank))
            case "unknown":
                column = line.unknown.astype(np.float64)
            case "frequency":
                column = np.where(line.unknown, np.nan, self._frequency[line.ids])
            case "length":
                column = np.array([*map(self.request.tokenizer.length, line.tokens), math.nan])
        return column

    def _reduction(self, scored: ScoredLine) -> Column:
        entropy, number = computed(scored.scores.entropy), scored.line.number
        # A document ends at a line that is not scored.
        continues = self.request.carried and number == self._line_before + 1
        before = np.concatenate([[self._entropy_before if continues else math.nan], entropy[:-1]])
        self._entropy_before, self._line_before = entropy[-1], number
        reduction: Column = np.maximum(np.nan_to_num(before - entropy, nan=0.0), 0.0)
        return np.where(np.isnan(entropy), np.nan, reduction)


def computed(values: NDArray[Any] | None) -> NDArray[Any]:
    """Returns values of `TokenScores`, which are None if they were not computed."""
    if values is None:
        raise ValueError("the column was not computed; see `measures`")
    return values


def predictions(scores: TokenScores, request: Request) -> list[list[tuple[str, float]]]:
    """Returns the K most probable tokens of each row, spelled, with their surprisal, [N, K].

    The list of a token without context is empty.
    """
    tokens, spelled = request.tokenizer.vocabulary.tokens, request.tokenizer.spelled
    surprisal = (computed(scores.top_nll) / math.log(request.base)).tolist()
    return [
        []
        if math.isnan(row[0])
        else [(spelled(tokens[i]), each) for i, each in zip(ids, row, strict=True)]
        for ids, row in zip(computed(scores.top_ids).tolist(), surprisal, strict=True)
    ]


def word_columns(
    scored: ScoredLine, columns: Mapping[str, Column], tokenizer: Tokenizer
) -> tuple[list[str], dict[str, Column]]:
    """Returns the words of a line, [W], and the columns of the words, each [W].

    The values of a word are the sums of surprisal, entropy reduction and unknown tokens, the
    entropy before its first token, the largest rank, the lowest frequency, and its length in
    characters. A value is missing if that of one of its tokens is.

    Args:
        scored: the line.
        columns: the columns of its tokens, each [N].
        tokenizer: the tokenizer.
    """
    words, starts = whole_words(scored.line, tokenizer)
    found = {name: _of_words(name, column, starts) for name, column in columns.items()}
    if "length" in found:
        lengths = [float(len(word)) for word in scored.line.text.split()]
        found["length"] = np.array(lengths + [math.nan] * (len(words) - len(lengths)))
    return words, found


def _of_words(name: str, column: Column, starts: NDArray[np.intp]) -> Column:
    match name:
        case "entropy" | "length":
            return column[starts]
        case "rank":
            return np.maximum.reduceat(column, starts)
        case "frequency":
            return np.minimum.reduceat(column, starts)
    return np.add.reduceat(column, starts)


def number(value: float) -> str:
    """Returns a value as text with 10 significant digits; NA if it is missing."""
    return "NA" if value != value else f"{value:.10g}"


def numbers(column: Column) -> list[str]:
    """Returns the values of a column as text."""
    return ["NA" if value != value else f"{value:.10g}" for value in column.tolist()]
