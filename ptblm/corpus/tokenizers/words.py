"""Reads text word by word: a line is its words and `<eos>`."""

from collections.abc import Iterator

from ptblm.corpus.source import Source, Watcher, decoded, refuse_empty
from ptblm.corpus.tokenizers.word_table import WordTable
from ptblm.corpus.vocabulary import EOS, UNK, Ids
from ptblm.errors import DataError


def encode_words(
    source: Source, numbers: dict[str, int], watch: Watcher, *, learn: bool
) -> Iterator[Ids]:
    """Yields the numbers of a text's words, in order, an array for each block.

    Args:
        source: the text.
        numbers: of the words that are known.
        watch: sees the bytes.
        learn: whether unknown words get numbers, the next ones; if not, they are -1.

    Raises:
        DataError: if the text is no UTF-8, has no word, or has one that is unknown while there
            is no `<unk>` to stand in.
    """
    words = WordTable(numbers, learn=learn)
    any_word, text = False, "\n"
    for place, text in decoded(source, "word", watch):
        any_word = any_word or not (text == "" or text.isspace())
        found = words.find(text.replace("\n", f" {EOS} "))
        if not learn and UNK not in numbers and (found < 0).any():
            raise _unknown_word(source, numbers, place, text)
        yield found
    refuse_empty(any_word, source.name, "word")
    if not text.endswith("\n"):  # the last line is a line
        yield words.find(EOS)


def _unknown_word(source: Source, numbers: dict[str, int], place: int, text: str) -> DataError:
    """The error for a block with a word that is unknown."""
    first_line, _ = source.line_and_byte(place)
    line, word = next(
        (number, word)
        for number, words in enumerate(text.split("\n"), start=first_line)
        for word in words.split()
        if word not in numbers
    )
    return DataError(
        f"'{word[:60]}' is not in the vocabulary, which has no {UNK} to stand in",
        where=f"{source.name}:{line}",
        hint=f"use text of the training text's words, put {UNK} into that text, "
        "or train at data.tokenizer char",
    )
