"""Reads text into arrays of ids, at the level that the config asks for."""

from dataclasses import dataclass

from ptblm.corpus.bytes import BYTES, encode_bytes
from ptblm.corpus.characters import character_vocabulary, encode_characters
from ptblm.corpus.level import Level
from ptblm.corpus.source import Source
from ptblm.corpus.vocabulary import Ids, Vocabulary
from ptblm.corpus.words import encode_words, word_vocabulary


@dataclass(frozen=True)
class Text:
    """A text as ids.

    Attributes:
        ids: of its tokens, shape [N]; of words and characters, `<eos>` after every line.
        unknown: how many tokens were outside the vocabulary and became `<unk>`.
        sha256: of the bytes that were read.
    """

    ids: Ids
    unknown: int
    sha256: str


def read_vocabulary(source: Source, level: Level) -> Vocabulary:
    """The vocabulary of a training text.

    Raises:
        DataError: if the text is empty, or should be UTF-8 and is not.
    """
    match level:
        case "word":
            return word_vocabulary(source)
        case "char":
            return character_vocabulary(source)
        case "byte":
            return BYTES


def read_text(source: Source, level: Level, vocabulary: Vocabulary) -> Text:
    """The ids of a text's tokens.

    Raises:
        DataError: if the text is empty, should be UTF-8 and is not, or has a word that is not in
            a vocabulary without `<unk>`.
    """
    encode = {"word": encode_words, "char": encode_characters, "byte": encode_bytes}[level]
    return Text(*encode(source, vocabulary), source.sha256)
