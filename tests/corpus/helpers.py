"""Helpers for tests of the reader."""

import io

from ptblm.corpus.reader import write_training_text
from ptblm.corpus.source import Source
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary

TOKENIZER_NAMES = ["word", "char", "byte"]


def vocabulary_of(*tokens: str) -> Vocabulary:
    """A vocabulary of tokens with counts 0."""
    return Vocabulary(tokens, [0] * len(tokens))


def tokenizer_of(name: str, *tokens: str) -> Tokenizer:
    """A tokenizer with a vocabulary of these tokens."""
    return make_tokenizer(name, vocabulary_of(*tokens))


def trained_tokenizer(source: Source, name: str) -> Tokenizer:
    """A tokenizer with the vocabulary of a training text."""
    tokenizer = make_tokenizer(name)
    write_training_text(source, tokenizer, lambda _: None, io.BytesIO())
    return tokenizer


def raw(source: Source) -> bytes:
    """All bytes of a source."""
    return b"".join(block for _, block in source.blocks())
