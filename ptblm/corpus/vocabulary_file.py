"""Reads a vocabulary from a text file with one token per line."""

from collections import Counter
from pathlib import Path

from ptblm.config.data import DataConfig
from ptblm.corpus.cleaning import is_unknown_word
from ptblm.corpus.preparing import prepare_text
from ptblm.corpus.source import read_file
from ptblm.corpus.tokenizers import TOKENIZERS
from ptblm.corpus.vocabulary import EOS, UNK, Vocabulary
from ptblm.errors import DataError

MAX_TOKENS = 3_000_000  # of a file that could be any text


def read_vocabulary(path: Path, config: DataConfig) -> Vocabulary:
    """Reads a vocabulary whose ids are the order of the tokens in the file.

    `<eos>` and, unless the vocabulary is closed, `<unk>` are added at the front if the file lacks
    them. Other columns of the file, such as counts, are ignored. With the character tokenizer, a
    line is one character, which may be a space.

    Args:
        path: a text file.
        config: the config of the corpus.

    Raises:
        DataError: if the file cannot be read, is empty, or contains a token twice, a token of
            another tokenizer, or more than `MAX_TOKENS` tokens.
    """
    keep = {"path": str(path), "marks": "keep", "format": "plain"}
    text = (
        prepare_text(read_file(path, may_be_pipe=False), config.model_copy(update=keep))
        .source.read()
        .decode()
    )
    if text.count("\n") > MAX_TOKENS:
        raise DataError(
            f"the vocabulary has more than {MAX_TOKENS:,} lines",
            where=str(path),
            hint="pass a shorter list of tokens",
        )
    lines = [line for line in text.split("\n") if line]
    if not lines:
        raise DataError("the vocabulary is empty", where=str(path), hint="write one token per line")
    if len(lines) == 1 and len(lines[0].split(None, 2)) > 2:
        raise DataError(
            "the vocabulary is one line with several tokens",
            where=str(path),
            hint="write one token per line",
        )
    tokens = [_token(line, config.tokenizer) for line in lines]
    tokenizer = TOKENIZERS[config.tokenizer]
    for token in tokens:
        if not tokenizer.is_token(token) and token not in (EOS, UNK):
            raise DataError(
                f"the vocabulary contains {token!r:.60}, which is not a {tokenizer.unit}",
                where=str(path),
                hint=f"write one {tokenizer.unit} per line, or use another --tokenizer",
            )
    required = [*tokenizer.required_tokens]
    required += [] if config.vocabulary.closed else [UNK]
    tokens = [*(token for token in required if token not in tokens), *tokens]
    repeated, count = Counter(tokens).most_common(1)[0]
    if count > 1:
        raise DataError(
            f"the vocabulary contains {repeated[:60]!r} {count:,} times",
            where=str(path),
            hint="remove the repeated lines",
        )
    return Vocabulary(tokens, [0] * len(tokens))


def _token(line: str, tokenizer_name: str) -> str:
    """Returns the token of a line. `<unk>` may have another spelling, such as `<UNK>`."""
    if tokenizer_name == "char" and len(line) == 1:
        return line
    words = line.split(None, 1)
    token = words[0] if words else line
    return UNK if is_unknown_word(token) else token
