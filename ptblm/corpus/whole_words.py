"""Assigns the tokens of a line to the words between white space.

A word of a word tokenizer is the token itself, or the tokens that `word_splitting` has divided it
into; the token that ends the line is a separate word. A word of characters or bytes also contains
the white space that follows it, or the end of the line, so that the surprisals of all words add up
to that of the line. White space before the first word belongs to the first word. A word of subwords
also contains the white space before it, and that at the end of a line belongs to the line end.

Shapes: W words of a line.
"""

import re

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.lines import Line
from ptblm.corpus.tokenizers.base import Tokenizer

_WORD_WITH_SPACES, _WORD_AFTER_SPACES = re.compile(r"\s*\S+\s*"), re.compile(r"\s*\S+")


def whole_words(line: Line, tokenizer: Tokenizer) -> tuple[list[str], NDArray[np.intp]]:
    """Returns the words of a line, [W], and the index of the first token of each word, [W].

    Args:
        line: the line. Its tokens are those of the tokenizer, or of `word_splitting`.
        tokenizer: the tokenizer.
    """
    words = line.text.split()
    if tokenizer.unit == "word":
        token_ends = np.cumsum([len(token) for token in line.tokens])
        word_starts = np.cumsum([0, *map(len, words)])  # in the line without white space
        starts = np.searchsorted(token_ends, word_starts, side="right")
        return [*words, tokenizer.line_end], starts
    if tokenizer.space_before:  # the characters of a token are bytes
        parts = _WORD_AFTER_SPACES.findall(line.text)
        sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
        token_starts = np.cumsum([0, *map(len, line.tokens)])
        starts = np.searchsorted(token_starts[:-1], np.cumsum([0, *sizes]))
        return [*words, tokenizer.line_end], starts
    if not words:
        return [tokenizer.line_end], np.zeros(1, dtype=np.intp)
    parts = _WORD_WITH_SPACES.findall(line.text)
    sizes = [len(tokenizer.tokens_of(part)) for part in parts]
    return words, np.cumsum([0, *sizes[:-1]])
