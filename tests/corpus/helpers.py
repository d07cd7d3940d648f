"""Helpers for tests of the reader."""

import io
from pathlib import Path
from typing import Any

from ptblm.config.data import DataConfig, VocabularyConfig
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


def trained_tokenizer(source: Source, name: str, **rule: Any) -> Tokenizer:
    """A tokenizer with the vocabulary of a training text; `rule` has keys of data.vocabulary."""
    tokenizer = make_tokenizer(name, rule=VocabularyConfig(**rule))
    write_training_text(source, tokenizer, lambda _: None, io.BytesIO())
    return tokenizer


def raw(source: Source) -> bytes:
    """All bytes of a source."""
    return b"".join(block for _, block in source.blocks())


def data_config(path: Path | str, tokenizer: str = "word", **keys: Any) -> DataConfig:
    """The config of a corpus."""
    return DataConfig.model_validate({"path": str(path), "tokenizer": tokenizer, **keys})
