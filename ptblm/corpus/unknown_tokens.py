"""Explains why many tokens of a text are not in the vocabulary."""

import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from ptblm.corpus.source import Source
from ptblm.corpus.tokenizers.base import Tokenizer

# A text with a larger share of unknown tokens does not fit the vocabulary.
MAX_SHARE = 0.3
# A reason has to explain this share of the unknown tokens.
_MIN_EXPLAINED = 0.3
_SAMPLE_SIZE = 2**18  # bytes
_PUNCTUATION = string.punctuation + "\u201c\u201d\u2018\u2019\u2013\u2014\u2026\u3001\u3002"


def unknown_tokens_note(source: Source, tokenizer: Tokenizer, unknown: int, total: int) -> str:
    """Returns a warning for a text with many unknown tokens, with the probable reason.

    Args:
        source: the text.
        tokenizer: the tokenizer with the vocabulary of the model.
        unknown: number of unknown tokens.
        total: number of tokens.
    """
    share = f"{unknown / total:.0%} of the {tokenizer.unit}s are not in the vocabulary"
    consequence = "the perplexity depends strongly on <unk>"
    rule = tokenizer.rule
    limits = {"size": rule.size, "min_count": rule.min_count, "file": rule.file}
    chosen = [f"data.vocabulary.{key}: {value}" for key, value in limits.items() if value]
    reason = ", ".join(chosen) or _reason(source, tokenizer)
    return f"{share}, so {consequence}; probable reason: {reason}"


def _reason(source: Source, tokenizer: Tokenizer) -> str:
    sample = source.read(_SAMPLE_SIZE).decode("utf-8", "ignore")
    tokens = [token for line in sample.split("\n") for token in tokenizer.tokens_of(line)]
    unknown = [token for token in tokens if token not in tokenizer.ids]
    explained = {
        reason: sum(change(token) in tokenizer.ids for token in unknown)
        for reason, change in _CHANGES.items()
    }
    reason, count = max(explained.items(), key=lambda item: item[1])
    if unknown and count >= _MIN_EXPLAINED * len(unknown):
        return reason
    script, known_scripts = _script(unknown), {_script([token]) for token in tokenizer.ids}
    if script is not None and script not in known_scripts:
        return f"the text is in {script.title()} script, and the vocabulary contains none"
    return "another language, subject or way to separate words"


_CHANGES: dict[str, Callable[[str], str]] = {
    "the vocabulary is in lower case, and the text is not": str.lower,
    "the vocabulary is in upper case, and the text is not": str.upper,
    "the words of the vocabulary begin with a capital letter": str.title,
    "punctuation is not separated from words by spaces, as in the training text": (
        lambda token: token.strip(_PUNCTUATION).lower()
    ),
    "the text is not in Unicode normalization form C (NFC), as the training text is": (
        lambda token: unicodedata.normalize("NFC", token)
    ),
    "the text is not in Unicode normalization form D (NFD), as the training text is": (
        lambda token: unicodedata.normalize("NFD", token)
    ),
    "full-width or other compatibility characters; the training text has the plain ones (NFKC)": (
        lambda token: unicodedata.normalize("NFKC", token)
    ),
}


def _script(tokens: Iterable[str]) -> str | None:
    """Returns the most frequent script of the letters, such as "LATIN"; None without letters."""
    letters = Counter(character for token in tokens for character in token if character.isalpha())
    scripts: Counter[str] = Counter()
    for letter, count in letters.items():
        scripts[unicodedata.name(letter, "UNKNOWN").split()[0]] += count
    return scripts.most_common(1)[0][0] if scripts else None
