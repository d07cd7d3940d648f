"""Splits punctuation and contractions from words, as in the Penn Treebank.

NLTK's TreebankWordTokenizer divides each word between white space: `don't` is `do` and `n't`, and
`"yes,"` is ```` `` ````, `yes`, `,` and `''`. A line can contain several sentences, so the period
at the end of any word is divided from it. A word that the vocabulary contains, such as `Mr.`, is
not divided.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, Protocol

from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.errors import UsageError

Splitting = Literal["none", "ptb", "ptb-lower"]
# The tokens of a line in the spelling of the text, and as the vocabulary spells them.
Split = Callable[[str], tuple[list[str], list[str]]]

_CACHED_WORDS = 2**16


class _Treebank(Protocol):
    def tokenize(self, text: str) -> list[str]: ...

    def span_tokenize(self, text: str) -> list[tuple[int, int]]: ...


def split_words(text: str, how: Splitting, tokenizer: Tokenizer) -> list[str]:
    """Returns the tokens of a line as the vocabulary spells them; see `word_splitter`."""
    return word_splitter(how, tokenizer)(text)[1]


@lru_cache(maxsize=8)
def word_splitter(how: Splitting, tokenizer: Tokenizer) -> Split:
    """Returns a function that divides a line into tokens.

    It returns the tokens in the spelling of the text, which together are the line without its white
    space, and the tokens as the vocabulary spells them: with ```` `` ```` and `''` for quotation
    marks, and in lower case for "ptb-lower".

    Args:
        how: "none" for the tokens of the tokenizer, "ptb", or "ptb-lower".
        tokenizer: the tokenizer with its vocabulary.

    Raises:
        UsageError: if the tokens are not words, or NLTK is not installed.
    """
    if how == "none":
        return lambda text: (tokenizer.tokens_of(text),) * 2
    if tokenizer.unit != "word":
        raise UsageError(
            f"--tokenize {how} divides words, and the tokens of the model are {tokenizer.unit}s",
            hint="omit --tokenize",
        )
    divide = lru_cache(_CACHED_WORDS)(_word_divider(how, tokenizer))

    def split(text: str) -> tuple[list[str], list[str]]:
        words = [divide(word) for word in text.split()]
        return (
            [token for spelled, _ in words for token in spelled],
            [token for _, tokens in words for token in tokens],
        )

    return split


def _word_divider(how: Splitting, tokenizer: Tokenizer) -> Split:
    treebank, known = _treebank_tokenizer(), tokenizer.ids

    def divide(word: str) -> tuple[list[str], list[str]]:
        looked_up = word.lower() if how == "ptb-lower" else word
        if looked_up in known:
            return [word], [looked_up]
        try:
            spans = list(treebank.span_tokenize(word))
            tokens = treebank.tokenize(word)
        except ValueError:  # a mixture of quotation marks that NLTK cannot align
            return [word], [looked_up]
        spelled = [word[start:end] for start, end in spans]
        if "".join(spelled) != word or len(spelled) != len(tokens):
            return [word], [looked_up]
        return spelled, [token.lower() for token in tokens] if how == "ptb-lower" else tokens

    return divide


def _treebank_tokenizer() -> _Treebank:
    """Returns NLTK's tokenizer.

    Raises:
        UsageError: if NLTK is not installed.
    """
    try:
        from nltk.tokenize.treebank import TreebankWordTokenizer
    except ImportError:
        raise UsageError(
            "--tokenize needs NLTK, which is not installed",
            hint="pip install 'ptblm[tokenize]'",
        ) from None
    treebank: _Treebank = TreebankWordTokenizer()
    return treebank
