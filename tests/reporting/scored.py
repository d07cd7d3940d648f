"""Scored lines with probabilities chosen by hand, so that all values can be computed by hand."""

from collections.abc import Sequence

import numpy as np

from ptblm.corpus.lines import make_line
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.evaluation.token_scores import TokenScores

# Counts are powers of 2. `NA` never occurs in the training text.
COUNTS = {"<eos>": 16, "<unk>": 2, "the": 8, "cat": 4, '"': 1, "NA": 0, "#1": 1}


def word_tokenizer() -> Tokenizer:
    return make_tokenizer("word", Vocabulary(list(COUNTS), list(COUNTS.values())))


def scored(
    number: int,
    text: str,
    probabilities: Sequence[float],
    entropy: Sequence[float] | None = None,
    tokenizer: Tokenizer | None = None,
) -> ScoredLine:
    """A line whose tokens, and the token that ends it, have these probabilities.

    Args:
        number: the number of the line.
        text: the line.
        probabilities: NaN for a token without context, [N].
        entropy: in bits, [N].
        tokenizer: the tokenizer; `word_tokenizer` by default.
    """
    tokenizer = tokenizer or word_tokenizer()
    line = make_line(number, tokenizer.tokens_of(text), tokenizer, text, "text")
    count = len(line.ids)
    with np.errstate(divide="ignore"):
        nll = -np.log(np.array(probabilities))
    scores = TokenScores(
        nll,
        None if entropy is None else np.array(entropy) * np.log(2),
        np.arange(1, count + 1),
        np.tile([2, 0], (count, 1)),
        np.tile(-np.log([0.5, 0.25]), (count, 1)),
    )
    assert len(scores) == count
    return ScoredLine(line, scores)
