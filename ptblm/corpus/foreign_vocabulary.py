"""The vocabularies of models that other programs trained."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ptblm.config.data import DataConfig
from ptblm.corpus.cleaning import is_end_mark, is_unknown_word
from ptblm.corpus.encodings import not_utf8_error
from ptblm.corpus.layout import SPLITS
from ptblm.corpus.source import Source, read_file
from ptblm.corpus.splits import CORPUS_NAMES, locate_corpus
from ptblm.corpus.vocabulary import EOS, UNK, Vocabulary
from ptblm.corpus.vocabulary_file import MAX_TOKENS
from ptblm.errors import DataError
from ptblm.files import os_errors
from ptblm.paths import expand_path

_MAX_BYTES = 300_000_000  # of a list of words
# Words that stand for unknown words in some vocabularies, and are ordinary words in others.
_POSSIBLE_UNK = ("UNK", "unk", "OOV", "oov")
_CORPUS_HINT = "pass the directory with the texts that the model was trained on"
# What ends a line for a text file of Python.
_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True)
class ForeignVocabulary:
    """A vocabulary with the special tokens of ptblm.

    Attributes:
        vocabulary: the tokens.
        unk: the word that stands for unknown words in texts, if it has to be named in the config.
        notes: changed and missing special tokens, one line each.
    """

    vocabulary: Vocabulary
    unk: str | None
    notes: list[str]


def read_word_list(path: Path) -> Vocabulary:
    """Reads a list of words: the id of a word is the number of its line, from 0.

    Args:
        path: a UTF-8 text file.

    Raises:
        DataError: if the file cannot be read, is too large, or a line is not one word.
    """
    with os_errors(DataError, where=path):
        if path.is_dir():
            raise _list_error("the vocabulary is a directory, not a list of words", path)
        if not path.exists():
            raise _list_error("no such vocabulary", path)
    source = read_file(path, may_be_pipe=False)
    if source.size > _MAX_BYTES:
        raise _list_error(f"the vocabulary has more than {_MAX_BYTES:,} bytes", path)
    text = _decode(source.read(), source).removeprefix("\ufeff")
    words = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if words == [""]:
        raise _list_error("the vocabulary is empty", path)
    _check_size(len(words), str(path))
    for number, word in enumerate(words, start=1):
        if len(word.split(None, 1)) != 1:
            what = f"is not one word: {word!r:.60}" if word else "is empty"
            raise _list_error(f"line {number:,} of the vocabulary {what}", path)
    repeated, count = Counter(words).most_common(1)[0]
    if count > 1:
        raise _list_error(f"the vocabulary contains {repeated[:60]!r} {count:,} times", path)
    return Vocabulary(words, [0] * len(words))


def vocabulary_of_examples(config: DataConfig) -> Vocabulary:
    """Builds the vocabulary of a corpus as PyTorch's word_language_model and AWD-LSTM do.

    The words of all three splits, train, valid and test, are numbered in the order in which they
    first occur, with `<eos>` after every line. The counts are those of the training split.

    Args:
        config: the corpus.

    Raises:
        DataError: if the corpus is not a directory, or a file is missing or is not UTF-8.
    """
    location = expand_path(config.path)
    with os_errors(DataError, where=location):
        if config.path not in CORPUS_NAMES and not location.exists():
            raise DataError("no such corpus", where=os.path.abspath(location), hint=_CORPUS_HINT)
    raw = locate_corpus(config)
    if raw.whole is not None:
        raise DataError(
            "a file, not a directory with train, valid and test files",
            where=str(raw.location),
            hint=f"{_CORPUS_HINT}, or a list of words by --vocab",
        )
    words: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for split in SPLITS:
        if split in raw.files:
            for block in _words(raw.files[split]):
                words.update(dict.fromkeys(block))
                _check_size(len(words), raw.files[split].name)
                if split == "train":
                    counts.update(block)
    return Vocabulary([*words], [counts[word] for word in words])


def with_special_tokens(vocabulary: Vocabulary, name: str) -> ForeignVocabulary:
    """Renames the tokens for unknown words and ends of lines to `<unk>` and `<eos>`.

    Args:
        vocabulary: the vocabulary.
        name: its file or corpus, for messages.

    Raises:
        DataError: if it contains no token for the end of a line.
    """
    tokens, notes = list(vocabulary.tokens), []
    ends = [EOS] if EOS in vocabulary.ids else [word for word in tokens if is_end_mark(word)]
    if not ends:
        raise DataError(
            "the vocabulary contains no end of a line, such as <eos> or </s>",
            where=name,
            hint="pass the vocabulary that the model was trained with; ptblm ends each line with "
            "<eos>",
        )
    unknown = [UNK] if UNK in vocabulary.ids else [word for word in tokens if is_unknown_word(word)]
    possible = [word for word in _POSSIBLE_UNK if word in vocabulary.ids]
    unk = None if unknown or not possible else possible[0]
    unknown = unknown or possible
    for found, own in ((ends, EOS), (unknown, UNK)):
        if found and found[0] != own:
            tokens[vocabulary.ids[found[0]]] = own
            notes.append(f"{found[0]} of the vocabulary is {own} in ptblm")
    if not unknown:
        notes.append("the vocabulary has no <unk>, so texts must not contain other words")
    return ForeignVocabulary(Vocabulary(tokens, vocabulary.counts), unk, notes)


def _words(source: Source) -> Iterator[list[str]]:
    """Yields the words of a text, with `<eos>` after every line, block by block."""
    text = "\n"
    for _, raw in source.blocks(_last_line_end):
        text = _decode(raw, source)
        yield _LINE_END.sub(f" {EOS} ", text).split()
    if not text.endswith(("\n", "\r")):
        yield [EOS]


def _last_line_end(raw: bytes) -> int:
    """Ends a block after a newline, so that CR LF is never divided."""
    return raw.rfind(b"\n") + 1


def _decode(raw: bytes, source: Source) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise not_utf8_error(source.read(), source.name) from None


def _check_size(size: int, name: str) -> None:
    if size > MAX_TOKENS:
        raise DataError(f"the vocabulary has more than {MAX_TOKENS:,} words", where=name)


def _list_error(what: str, path: Path) -> DataError:
    hint = "pass a file with one word per line, in the order of the ids of the model"
    return DataError(what, where=str(path), hint=hint)
