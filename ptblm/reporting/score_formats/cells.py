r"""Writes tokens into cells of tab-separated values.

The default readers of pandas (`read_csv(path, sep="\t")`) and R (`read.delim(path)`) read each
token as one string:

- A token that contains `"` is in quotation marks, in which `"` is doubled. So is a token that
  contains `#`, in case the reader skips comments.
- Tabs, control characters and other characters that are not printable are escaped, as in `\t`.
- The first character of a token that a reader would take for a missing value, such as `NA`, `null`
  or `None`, is escaped, as in `\x4eA`. Both readers take the plain word for a missing value even
  within quotation marks.
- Bytes that are not a character by themselves are escaped, as in `\xc3`.

The escapes are those of Python's codec `unicode_escape`.
"""

from functools import lru_cache

from ptblm.corpus.lines import Line
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.terminal import escape

# The strings that pandas and R read as missing values, in any case.
_MISSING = {"na", "n/a", "nan", "-nan", "null", "none", "<na>", "#na", "#n/a", "#n/a n/a"}
_MISSING |= {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}


@lru_cache(2**16)
def cell(token: str) -> str:
    """Returns a token as a cell; see the module."""
    text = escape(token)
    if text.lower() in _MISSING:
        text = f"\\x{ord(text[0]):02x}{text[1:]}"
    return '"' + text.replace('"', '""') + '"' if '"' in text or "#" in text else text


def spelled_tokens(line: Line, tokenizer: Tokenizer) -> list[str]:
    """Returns the tokens of a line in printable spelling, with the token that ends the line."""
    return [tokenizer.spelled(token) for token in [*line.tokens, tokenizer.line_end]]
